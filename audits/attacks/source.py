"""Source-hospital inference: at which of n sites is a patient who is known to be at one of them? (Hu et al. 2021)

The attacker adds up each site's rounds as for membership and names the site with the highest score; chance is 1 / n. Against the
law without the patient, each of the n laws differs by one patient at one site, so the ceiling is `Ceiling.guess(n)` of a run.
"""

import numpy as np

from audits.attacks.ceiling import ceiling_of
from audits.attacks.judge import guesses, section
from audits.attacks.scenes import Roaming
from audits.section import Section
from audits.subject import Subject

TITLE = "Can a whole run tell which hospital a patient goes to?"


def attack(subject: Subject, scene: Roaming) -> Section:
    """Name every candidate's site."""
    right, control = (scores.argmax(0) == scene.home for scores in (scene.scores, scene.control))
    sites = len(scene.scores)
    trial = guesses(
        f"Which of {sites} hospitals, whole run",
        "All updates of all sites together do not tell a patient's hospital better than epsilon allows",
        right,
        control,
        sites,
        ceiling_of([subject.mechanism.spends] * (scene.rounds * subject.plan.steps)),
        "made-up patients, spread evenly over the sites; real hospitals have patients of their own kind, which is a prior",
    )
    return section(TITLE, [trial], {"sites": sites, "rounds": scene.rounds, "patients": int(np.size(scene.home))})
