import tomllib
from pathlib import Path

from client.site import load_site
from server.invitation import Invitation, files_for
from shared.card import Task


def test_an_image_card_comes_with_a_site_file_for_images(tmp_path: Path) -> None:
    given = files_for(Invitation(Task.load("chest-xray"), "hub.example.org:9092", b"PEM", 3.0), "Alder")
    path = tmp_path / "site.toml"
    path.write_bytes(given["site.toml"])
    site = load_site(path)
    assert site.images is not None
    assert site.data.path == tmp_path / "manifest.csv"
    assert site.images.labels == {"normal": "normal", "pneumonia": "pneumonia"}
    assert not site.images.skip_broken
    assert "columns" not in tomllib.loads(path.read_text())["images"]
    assert "Complete [images]" in path.read_text()
