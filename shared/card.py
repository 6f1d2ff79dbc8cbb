"""The task card: the public TOML file that a federation agrees on. Its SHA-256 digest is the task's identity."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from shared.backbones.protocol import Position, Readout
from shared.backbones.tuning import Kind
from shared.errors import InputError
from shared.pixels import ImageTable
from shared.plan import PlanTable, Positive, SiteName
from shared.privacy.banded import MOST_BANDS
from shared.template import FieldTable, RecordText
from shared.toml import Table, digest, parse, read_text, shipped
from shared.windows import Windows

SHIPPED = Path(__file__).parent / "cards"
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
INIT = r"^(text:.+|vocabulary|random|prompt:.+@[0-9a-f]{64})$"  # prompt: a trained one and its SHA-256, see shared.reuse
Rate = Annotated[float, Field(gt=0, le=1)]
OVERLAP = 16  # tokens, of a card that names windows and no overlap


class Label(Table):
    """One label: the name that records carry, and a public text whose embedding starts its row.

    For a language model with label words the text is that word; for an image model there is none.
    """

    name: str
    text: str = ""


class BackboneTable(Table):
    """The frozen model: `package:IMPORT_NAME/FOLDER`, `folder:PATH` or `hub:ORG/NAME`, and its fingerprint."""

    source: Annotated[str, StringConstraints(pattern=r"^(package|folder|hub):.+")]
    fingerprint: Sha256
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_tokens: Annotated[int, Field(ge=4, le=8192)] = 128


class PromptTable(Table):
    """The one trainable tensor and how it reads a record."""

    rows: Annotated[int, Field(ge=0, le=512)] = 1
    layer: Annotated[int, Field(ge=0)] = 0  # 0: at the input; k: before the backbone's k-th encoder layer
    init: Annotated[str, StringConstraints(pattern=INIT)] = "vocabulary"
    label_rows: bool = True
    deep: bool = False  # new rows in every layer from `layer` on
    position: Position = "before"  # of the rows, to a text that a causal language model reads
    readout: Readout | None = None  # what is read of a record: docs/backbones.md; default: as the model's family does
    scale: Positive | None = None  # logits are scale * cosine of the record's vector and a label row (20), or scale * product (1)
    centre: Literal["public", "none"] = "public"  # cosines: the vector minus its mean over public records, or as it is
    public_records: Annotated[int, Field(ge=1, le=100_000)] = 256  # drawn from the template, or public images


class TuneTable(Table):
    """What moves in the model in place of the prompt's rows, which stay as they start; docs/handover.md."""

    kind: Kind = "lora"  # low-rank changes of queries and values, or all weights of the layers
    rank: Annotated[int, Field(ge=1, le=256)] = 4  # of lora
    alpha: Positive = 8.0  # of lora: changes are scaled by alpha / rank


class PrivacyTable(Table):
    """The mechanism that every site applies to its own patients."""

    mechanism: Literal["discrete-gaussian", "gaussian"] = "discrete-gaussian"  # gaussian: the float path
    unit: Literal["patient"] = "patient"
    adjacency: Literal["add-or-remove-one"] = "add-or-remove-one"
    delta: Annotated[float, Field(gt=0, lt=1e-2)]
    sample_rate: Rate
    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6)]
    noise_multiplier: Annotated[float, Field(gt=0, le=10_000)] | None = None  # give this, or epsilon and it is calibrated
    epsilon: Positive | None = None
    max_records: Annotated[int, Field(ge=1, le=1000)] = 1  # k_max: records of one patient that a step may look at
    bands: Annotated[int, Field(ge=1, le=MOST_BANDS)] = 1  # DP-FTRL: noise that partly cancels over so many rounds; docs/banded.md

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "PrivacyTable":
        if (self.noise_multiplier is None) == (self.epsilon is None):
            raise ValueError("[privacy] needs exactly one of noise_multiplier and epsilon; give one")
        return self

    @model_validator(mode="after")
    def _bands_fit(self) -> "PrivacyTable":
        if self.bands > 1 and self.mechanism != "discrete-gaussian":
            raise ValueError("bands are made of whole numbers; set mechanism = 'discrete-gaussian' or remove bands")
        if self.bands * self.sample_rate > 1 + 1e-9:
            raise ValueError(
                f"bands {self.bands} times sample_rate {self.sample_rate:g} is {self.bands * self.sample_rate:g}, the rate in a "
                "group's turn, which is at most 1; lower one"
            )
        return self


class AuditTable(Table):
    """The audit site: on the roster, checked and kept like any other, and left out of the sum; see docs/canaries.md."""

    site: SiteName
    commitment: Sha256  # SHA-256 of its canary file, made before this card


class TemplateTable(Table):
    """How a row of a table becomes a sentence."""

    text: str
    fields: dict[str, FieldTable] = {}
    windows: Annotated[int, Field(ge=2, le=64)] | None = None  # most windows of a long text; default: a long text is cut
    overlap: Annotated[int, Field(ge=1, le=4096)] | None = None  # tokens that two windows share (16)

    @model_validator(mode="after")
    def _fits(self) -> "TemplateTable":
        if self.overlap is not None and self.windows is None:
            raise ValueError("overlap says nothing without windows; add windows or remove overlap")
        RecordText(self.text, dict(self.fields))  # says which placeholder has no field, or which field is unused
        return self


class Reference(Table):
    """A published or recomputed number that results stand beside in the report."""

    name: str
    mean_of_sites_accuracy: float | None = None
    pooled_accuracy: float | None = None
    pooled_auc: float | None = None
    note: str = ""


class TaskCard(Table):
    """The whole card. See `shared/cards/heart-disease.toml` for a commented example."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    title: str
    labels: Annotated[tuple[Label, ...], Field(min_length=2, max_length=100)]
    backbone: BackboneTable
    prompt: PromptTable = PromptTable()
    tune: TuneTable | None = None  # where the prompt is handed over to conventional fine-tuning
    template: TemplateTable | None = None  # where records are texts
    image: ImageTable | None = None  # where they are images
    privacy: PrivacyTable
    plan: PlanTable
    audit: AuditTable | None = None
    files: dict[str, Sha256] = {}  # the demonstration's data: where it is -> SHA-256
    references: tuple[Reference, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "TaskCard":
        names = [label.name for label in self.labels]
        if len(set(names)) < len(names):
            raise ValueError("two labels have the same name; name each label once")
        if self.prompt.rows == 0 and not self.prompt.label_rows and self.tune is None:
            raise ValueError("[prompt] has neither rows nor label_rows, so nothing could be trained; give one")
        if self.tune is not None and self.prompt.position == "after":
            raise ValueError("[tune] changes what the model makes of a text, and position 'after' keeps that; put the rows before")
        if self.plan.personal and self.plan.personal.rows == "labels" and not self.prompt.label_rows:
            raise ValueError("[plan.personal] rows 'labels' needs [prompt] label_rows; leave rows away, or set label_rows = true")
        if self.template is not None and self.image is not None:
            raise ValueError("[template] makes records sentences and [image] makes them images; give one of them")
        return self

    @model_validator(mode="after")
    def _bands_stand_alone(self) -> "TaskCard":
        if self.privacy.bands == 1:
            return self
        for there, what in (
            (self.plan.local_steps > 1, "[plan] local_steps above 1"),
            (self.plan.personal is not None, "[plan.personal]"),
            (self.audit is not None, "[audit]"),
        ):
            if there:
                raise ValueError(f"[privacy] bands let rounds share noise, which {what} does not allow for; remove one of the two")
        return self

    @model_validator(mode="after")
    def _audit_fits(self) -> "TaskCard":
        if self.audit is None:
            return self
        if self.audit.site not in self.plan.sites:
            raise ValueError(f"[audit] site '{self.audit.site}' is not on the roster; add it to [plan] sites")
        others, fewest = len(self.hospitals), self.plan.fewest
        if others < fewest:
            raise ValueError(f"[plan] needs {fewest} sites beside the audit site and has {others}; add hospitals to the roster")
        if not fewest <= self.quorum <= others:
            raise ValueError(f"quorum {self.quorum} is outside {fewest} to {others}; it does not count the audit site")
        return self

    @property
    def record_text(self) -> RecordText:
        """The template that turns a record into a sentence; raise `InputError` where records are images."""
        if self.template is None:
            raise InputError("key 'template' is missing; add a [template] that says how a record becomes a text.")
        return RecordText(self.template.text, dict(self.template.fields))

    @property
    def windows(self) -> Windows | None:
        """How a text is read that is longer than the model reads; None: it is cut."""
        said = self.template
        if said is None or said.windows is None:
            return None
        return Windows(said.windows, said.overlap or OVERLAP, self.backbone.max_tokens, self.record_text.ending)

    @property
    def picture(self) -> ImageTable:
        """How a picture becomes the model's input; raise `InputError` where the card does not say."""
        if self.image is None:
            raise InputError("key 'image' is missing; add an [image] that says how a picture becomes the model's input.")
        return self.image

    @property
    def hospitals(self) -> tuple[str, ...]:
        """The sites whose updates make the prompt: the roster without the audit site."""
        return tuple(site for site in self.plan.sites if self.audit is None or site != self.audit.site)

    @property
    def quorum(self) -> int:
        """The number of hospitals that must contribute to a round; the audit site is not one of them."""
        return self.plan.least if self.audit is None else self.plan.quorum or len(self.hospitals)

    @property
    def tolerates(self) -> int:
        """The lying hospitals that every round's aggregation withstands; see `PlanTable.tolerates`."""
        return (self.quorum - 1) // 2 if self.plan.aggregation == "median" else self.plan.tolerates


@dataclass(frozen=True)
class Task:
    """A parsed card with the exact text it came from and that text's digest."""

    card: TaskCard
    text: str
    digest: str

    @classmethod
    def parse(cls, text: str, source: str) -> "Task":
        """Parse a card's text; raise `InputError` that names `source` and the key."""
        return cls(parse(TaskCard, text, source), text, digest(text))

    @classmethod
    def load(cls, name_or_path: str) -> "Task":
        """Load a card from a path, or a shipped one by its name such as `heart-disease`."""
        path = shipped(name_or_path, SHIPPED, "card")
        return cls.parse(read_text(path), str(path))
