"""Detectors on the images of multimodal rows: missing files, marks, formats and sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import of_split, share_of
from ftdoctor.detect.tokens import family_of
from ftdoctor.model import Observation, Run

if TYPE_CHECKING:
    import polars as pl

NEEDED = "multimodal training rows"


def _with_images(run: Run) -> pl.DataFrame:
    import polars as pl

    return of_split(run, "train").filter(
        (pl.col("images").list.len() > 0) | (pl.col("image_marks") > 0)
    )


@detector("images.marks_differ")
def marks_differ(run: Run, *, above: float) -> Observation:
    """Find rows whose number of `<image>` marks is not the number of their images."""
    import polars as pl

    rows = _with_images(run).filter(pl.col("images").list.len() > 0)
    if not rows.height:
        return unobservable("No rows with images", NEEDED)
    hits = rows.filter(pl.col("image_marks") != pl.col("images").list.len())
    return share_of(
        rows, hits, "have another number of image marks than of images", above=above,
        fact="data.image_marks", column="image_marks",
    )  # fmt: skip


@detector("images.files_missing")
def files_missing(run: Run, *, above: float) -> Observation:
    """Find image paths that are not among the run's files, where the run holds images at all."""
    import polars as pl

    rows = _with_images(run).filter(pl.col("images").list.len() > 0)
    if not rows.height:
        return unobservable("No rows with images", NEEDED)
    names = {a.path.rpartition("/")[2] for a in run.artifacts if a.kind == "media"}
    if not names:
        return unobservable("The run holds no image files", "the folder of images")
    flags = [
        any(not _embedded(i) and i.replace("\\", "/").rpartition("/")[2] not in names for i in row)
        for row in rows["images"]
    ]
    return share_of(
        rows, rows.filter(pl.Series(flags)), "refer to an image that is not there", above=above,
        fact="data.images", column="record",
    )  # fmt: skip


def _embedded(image: str) -> bool:
    return image.startswith(("data:", "http://", "https://")) or not image


@detector("images.unused")
def unused(run: Run, *, above: float) -> Observation:
    """Find a vision model whose rows hold no image parts or marks."""
    own = family_of(run)
    vision = own is not None and (own.vision_tokens or "-vl" in own.id)
    processor = run.fact("processor.image_processor_type")
    if not vision and processor is None:
        return unobservable("Whether this is a vision model is not known", "config.json")
    rows = of_split(run, "train")
    if not rows.height:
        return unobservable("No training rows were found", NEEDED)
    import polars as pl

    hits = rows.filter((pl.col("images").list.len() == 0) & (pl.col("image_marks") == 0))
    named = hits.filter(
        pl.col("record").str.contains(r"\.(?:png|jpe?g|webp|bmp)\b")
        | pl.col("record").str.contains(r'"image(?:_path|s)?"')
    )
    return share_of(
        rows, named, "name an image, but no message holds one", above=above,
        fact="data.record", column="record",
    )  # fmt: skip


@detector("images.header")
def header(run: Run, *, what: str, above: float) -> Observation:
    """Judge image headers read from the run: mode not RGB, or more pixels than fit.

    `what` is not-rgb, unreadable, or large (longer side above 2,048 pixels).
    """
    fact = run.fact("data.images")
    if fact is None:
        return unobservable("No image files of the rows were found", "the folder of images")
    value = fact.value
    count, total = int(value.get(what, 0)), int(value.get("read", 0) + value.get("unreadable", 0))
    text = f"{count:,} of {total:,} images are {_HEADERS[what]}"
    if total and count / total > above:
        return present(text, fact)
    return absent(text, fact)


_HEADERS = {
    "not-rgb": "not RGB (transparent, grey or palette)",
    "unreadable": "unreadable",
    "large": "longer than 2,048 pixels",
}
