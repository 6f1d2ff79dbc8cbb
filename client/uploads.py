"""Pictures that somebody sends: what they are is read from their first bytes, and how large before they are decoded."""

from io import BytesIO

from client.dicom import read_dicom
from client.images import read_picture
from client.scan import Scan, ScanPolicy, UnreadableError
from shared.pixels import ImageTable

PNG, JPEG, DICM = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"DICM"
# Transfer syntaxes that inflate the whole file, or a frame, before its size can be known.
DEFLATED = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.8.1")


def read_upload(content: bytes, image: ImageTable, most: int, policy: ScanPolicy, pixels: int) -> Scan:
    """Return the pictures of a PNG, JPEG or DICOM file.

    Args:
        content: the file.
        image: the card's preparation.
        most: frames that are read of a film.
        policy: what the hospital allows.
        pixels: a file that would be decoded to more is refused first.

    Raises:
        UnreadableError: another kind of file, one that is too large, or what `client.dicom` refuses.
    """
    if content.startswith((PNG, JPEG)):
        _require_room(_size_of_picture(content), pixels)
        return Scan((read_picture(BytesIO(content)),))
    if content[128:132] != DICM:
        raise UnreadableError("it is no PNG, JPEG or DICOM file")
    if any(syntax in content for syntax in DEFLATED):
        raise UnreadableError("deflated DICOM is not taken here; send it with another transfer syntax")
    _require_room(_size_of_dicom(content, most), pixels)
    return read_dicom(BytesIO(content), image, most, policy)


def _size_of_picture(content: bytes) -> int:
    from PIL import Image  # noqa: PLC0415 (only where there are images)

    with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as file:
        return file.width * file.height


def _size_of_dicom(content: bytes, most: int) -> int:
    import pydicom  # noqa: PLC0415 (in the extra `images`)

    file = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    frames = int(file.get("NumberOfFrames", 1) or 1)
    return int(file.get("Rows", 0)) * int(file.get("Columns", 0)) * min(frames, most)


def _require_room(size: int, most: int) -> None:
    if size > most:
        raise UnreadableError(f"it has {size} pixels; at most {most} are decoded")
