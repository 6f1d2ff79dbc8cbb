import io
import tomllib
import zipfile

from shared.bundle import FILE, bundle, bundle_hash


def test_the_bundle_is_the_same_bytes_whenever_it_is_built_and_holds_no_code() -> None:
    assert bundle() == bundle()
    with zipfile.ZipFile(io.BytesIO(bundle())) as found:
        assert sorted(found.namelist()) == [".info/CONTENT", "pyproject.toml"]
        assert tomllib.loads(found.read("pyproject.toml").decode()) == tomllib.loads(FILE.read_text())
    assert len(bundle_hash()) == 64
