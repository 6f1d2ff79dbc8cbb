"""POST /predict of a service whose prompts read images: files in base64 in, probabilities of each patient out."""

from collections.abc import Callable, Sequence

from fastapi import HTTPException
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from client.albums import Album, predict_album
from client.images import Source
from client.prediction import Question
from client.records import Row
from client.scan import Scan, ScanPolicy
from client.uploads import read_upload
from shared.card import TaskCard
from shared.errors import InputError


class Picture(BaseModel):
    """A file: PNG, JPEG or DICOM in base64, and whose it is (default: whom a DICOM file names, else a patient of its own)."""

    model_config = ConfigDict(extra="forbid")
    content: Base64Bytes = Field(min_length=4, description="a PNG, JPEG or DICOM file in base64")
    patient: str | None = Field(default=None, min_length=1, max_length=200)


class Pictures(BaseModel):
    """A request: files, and which prompts shall read them (default: all)."""

    model_config = ConfigDict(extra="forbid")
    files: list[Picture] = Field(min_length=1)
    prompts: list[str] | None = Field(default=None, min_length=1)


class SaidOfPicture(BaseModel):
    """The likeliest label and the probability of each."""

    label: str
    probabilities: dict[str, float]


class SaidOfPatient(BaseModel):
    """What each prompt says of one patient: the mean of the probabilities over the pictures that were read."""

    files: list[int]
    pictures: int
    prompts: dict[str, SaidOfPicture]


class PicturesAnswer(BaseModel):
    """For each patient, in order of appearance, the numbers of the files that were sent (from 0) and what each prompt says."""

    predictions: list[SaidOfPatient]


def answer_pictures(questions: Sequence[Question], request: Pictures, policy: ScanPolicy, pixels: int) -> PicturesAnswer:
    """Read a request's files; a file that cannot be read gives 422 with its number and the reason, and no prediction."""
    rows = [{"file": number, "patient": file.patient} for number, file in enumerate(request.files)]
    patient = "patient" if any(file.patient for file in request.files) else None
    album = Album(rows, _source(request, policy, pixels), "request", "file", patient)
    try:
        told, files = predict_album(questions, album)
    except InputError as error:
        raise HTTPException(422, str(error)) from None
    if files.broken:
        listed = "; ".join(f"file {number}: {reason}" for number, reason in sorted(files.broken.items()))
        raise HTTPException(422, f"{len(files.broken)} of {len(rows)} files cannot be read: {listed}")
    names = [question.reader.name for question in questions]
    return PicturesAnswer(
        predictions=[
            SaidOfPatient(
                files=list(one.rows),
                pictures=one.pictures,
                prompts={
                    name: SaidOfPicture(label=p.label, probabilities=dict(p.probabilities))
                    for name, p in zip(names, one.said, strict=True)
                },
            )
            for one in told
        ]
    )


def _source(request: Pictures, policy: ScanPolicy, pixels: int) -> Callable[[TaskCard], Source]:
    def source(card: TaskCard) -> Source:
        def read(row: Row) -> Scan:
            return read_upload(request.files[row["file"]].content, card.picture, card.privacy.max_records, policy, pixels)

        return Source("request", "file", read)

    return source
