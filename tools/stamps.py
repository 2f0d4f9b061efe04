"""Build `data/stamps/`: photographic cut-outs with alpha in ten classes, and photographs to put them on.

    mkdir packages && cd packages
    apt-get download tuxpaint-stamps-default tuxpaint-data mate-backgrounds     (Debian 12)
    pip download --no-deps --only-binary :all: --python-version 3.11 --platform manylinux_2_28_x86_64 \\
        scikit-image==0.26.0
    cd .. && .venv/bin/python tools/stamps.py packages && .venv/bin/python -m mambaout.files.manifest

The folder holds the packages, or each one unpacked in a folder of its name (`dpkg -x`, or `unzip` for the wheel).
A package with other bytes than those recorded here is refused, unless `--any-version` is given.

What is chosen: the files of the folders in `FOLDERS` that are large enough and whose mask is firm, without those
that the folder's name calls drawings, toys or mirror images. Then `DROPPED` and `MOVED` mend by hand, after a look
at every image, what those rules get wrong.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from mambaout.files.download import digest

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "data" / "stamps"
SIDE = 160  # longest side of a cut-out
SMALLEST = 60  # a smaller source would look blurred beside the others
BACKGROUND = (320, 240)

# Package -> (version, SHA-256 of the archive).
PACKAGES = {
    "tuxpaint-stamps-default": (
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    ),
    "tuxpaint-data": ("1:0.9.28-sdl2-1", "f5d0de8f9a70d2efc1241d19f26168cb8bf279f1b77abd3631e7a1a55c40e5e5"),
    "mate-backgrounds": ("1.26.0-1", "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04"),
    "scikit_image": ("0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"),
}

# Folder below usr/share/tuxpaint/stamps -> class. The classes stand in the order of mambaout.datasets.stamps.CLASSES.
FOLDERS = {
    "animals/mammals": "mammal",
    "animals/marsupials": "mammal",
    "animals/birds": "bird",
    "animals/insects": "insect",
    "animals/fish": "sea animal",
    "animals/shellfish": "sea animal",
    "animals/mammals/aquatic": "sea animal",
    "plants/flowers": "flower",
    "plants": "plant",
    "food/fruit": "fruit or vegetable",
    "food/vegetables": "fruit or vegetable",
    "household": "household item",
    "hobbies/music": "musical instrument",
    "vehicles": "vehicle",
    "military/vehicles": "vehicle",
}
NO_PHOTOGRAPHS = {"cartoon", "toys", "plastic"}

MOVED = {
    "animals/mammals/aquatic/otter": "mammal",  # lives in rivers
    "plants/trees/rambutan": "fruit or vegetable",
    "food/spices/ginger": "fruit or vegetable",
    "hobbies/binoculars": "household item",
    "hobbies/camera_35mm": "household item",
}
DROPPED = {
    "animals/mammals/echidna": "a silhouette",
    "animals/mammals/hedgehog": "a drawing",
    "animals/mammals/apes/tamarin_emperor": "a blurred mask",
    "animals/mammals/pig_golden2": "the same pig as pig_golden",
    "animals/mammals/bovines/gnu-baby-stand": "the same calf as gnu-baby",
    "animals/mammals/aquatic/sea_lion": "between two classes",
    "animals/insects/bee": "a drawing",
    "animals/insects/Brown_slug": "no insect",
    "animals/insects/Woodlouse": "no insect",
    "animals/shellfish/murray-mussel": "lives in rivers",
    "plants/lavender": "a speckled mask",
    "plants/thyme": "a speckled mask",
    "household/key": "a drawing",
    "household/arttools/scissors_small_closed": "hardly a pixel wide",
    "household/arttools/highlighter": "a drawing",
    "household/rubberduck": "between two classes",
    "household/tools/cementmixer": "between two classes",
    "household/tools/wrench_adjustable": "a drawing",
    "vehicles/7spoke256": "a wheel",
    "vehicles/wheel_tractor": "a wheel",
    "vehicles/emergency/sedan_police": "letters without their car",
}

GPL, CC0 = "GPL-2.0-or-later", "CC0 1.0"
TEMPLATES = "usr/share/tuxpaint/templates/"
NATURE = "usr/share/backgrounds/mate/nature/"
KENDRICK = "Bill Kendrick and the Tux Paint contributors"


@dataclass(frozen=True)
class Background:
    """A photograph without an object of the ten classes; `border` is the share to cut away above and below."""

    package: str
    source: str
    title: str
    author: str
    licence: str
    border: float = 0


BACKGROUNDS = {
    "burnt_bark": Background("tuxpaint-data", TEMPLATES + "burnt_bark.jpg", "Burnt bark", KENDRICK, GPL),
    "cliff": Background("tuxpaint-data", TEMPLATES + "cliff.jpg", "A cliff", KENDRICK, GPL),
    "lighthouse": Background("tuxpaint-data", TEMPLATES + "lighthouse.jpg", "A lighthouse", KENDRICK, GPL),
    "mossy_bark": Background("tuxpaint-data", TEMPLATES + "mossy_bark.jpg", "Mossy bark", KENDRICK, GPL, border=0.08),
    "mossy_log": Background("tuxpaint-data", TEMPLATES + "mossy_log.jpg", "A mossy log", KENDRICK, GPL),
    "mudstone": Background("tuxpaint-data", TEMPLATES + "mudstone.jpg", "Mudstone", KENDRICK, GPL),
    "ocean_splash": Background("tuxpaint-data", TEMPLATES + "ocean_splash.jpg", "Spray", KENDRICK, GPL),
    "ocean_waves": Background("tuxpaint-data", TEMPLATES + "ocean_waves.jpg", "Waves", KENDRICK, GPL),
    "pebbles": Background("tuxpaint-data", TEMPLATES + "rocks.jpg", "Pebbles", KENDRICK, GPL),
    "cloud": Background("tuxpaint-data", TEMPLATES + "sun_behind_clouds.jpg", "The sun behind a cloud", KENDRICK, GPL),
    "gears": Background(
        "tuxpaint-data", TEMPLATES + "wool_mill_machine.jpg", "A machine of a wool mill", KENDRICK, GPL
    ),
    "dune": Background("mate-backgrounds", NATURE + "Dune.jpg", "A dune", "Marco Cogoni, Hylke Bons", GPL),
    "meadow": Background(
        "mate-backgrounds", NATURE + "GreenMeadow.jpg", "A meadow", "Timothy Schellhase, Lapo Calamandrei", GPL
    ),
    "storm": Background("mate-backgrounds", NATURE + "Storm.jpg", "A storm", "Sergey Nazarov", GPL),
    "planks": Background("mate-backgrounds", NATURE + "Wood.jpg", "Planks", "Jean-François Fortin Tam", GPL),
    "brick": Background("scikit_image", "skimage/data/brick.png", "Bricks", "CC0Textures", CC0),
    "grass": Background("scikit_image", "skimage/data/grass.png", "Grass", "linolafett", CC0),
    "gravel": Background("scikit_image", "skimage/data/gravel.png", "Gravel", "CC0Textures", CC0),
    "galaxies": Background(
        "scikit_image", "skimage/data/hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "NASA", "public domain"
    ),
}


def unpack(packages: Path, name: str, scratch: Path, *, any_version: bool) -> Path:
    """The unpacked folder of one package.

    Raises:
        SystemExit: the package is missing, is there twice, or has other bytes than recorded.
    """
    if (packages / name).is_dir():
        return packages / name
    archives = sorted([*packages.glob(f"{name}_*.deb"), *packages.glob(f"{name}-*.whl")])
    if len(archives) != 1:
        found = ", ".join(path.name for path in archives) or "none"
        raise SystemExit(f"Expected one package {name} in {packages}, found {found}. How to get it:\n{__doc__}")
    archive, (version, expected) = archives[0], PACKAGES[name]
    if not any_version and (found := digest(archive)) != expected:
        raise SystemExit(
            f"{archive} is not version {version}: expected SHA-256 {expected}, found {found}. "
            "Use --any-version to build from it; the images may differ."
        )
    target = scratch / name
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(target, [entry for entry in wheel.namelist() if entry.startswith("skimage/data/")])
    else:
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
    return target


def class_of(source: Path) -> str | None:
    """The class of a stamp, from its path below the folder of stamps; None where it is left out."""
    name = source.with_suffix("").as_posix()
    if name in DROPPED or source.stem.endswith("_mirror") or NO_PHOTOGRAPHS & set(source.parts):
        return None
    folders = [folder.as_posix() for folder in source.parents]  # the nearest first
    return MOVED.get(name) or next((FOLDERS[folder] for folder in folders if folder in FOLDERS), None)


def cut_out(path: Path) -> Image.Image | None:
    """A stamp, cropped to its mask and at most `SIDE` pixels long; None where it is too small or mostly see-through."""
    with Image.open(path) as file:
        image = file.convert("RGBA")
    mask = image.getchannel("A")
    alpha = np.asarray(mask)
    seen, partial = alpha > 25, (alpha > 25) & (alpha < 230)
    if partial.sum() > 0.6 * seen.sum():
        return None
    if not partial.any():  # cut with scissors: one pixel of the old background is left around it
        image.putalpha(mask.filter(ImageFilter.MinFilter(3)))
    image = image.crop(image.getchannel("A").point(lambda value: 255 * (value > 25)).getbbox())
    longest = max(image.size)
    if longest < SMALLEST:
        return None
    if longest > SIDE:  # Pillow weighs colours with alpha here
        width, height = (max(1, round(length * SIDE / longest)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image


def write_stamps(package: Path) -> Iterator[dict[str, str]]:
    """Write the cut-outs and yield their rows for `stamps.csv`."""
    folder = package / "usr/share/tuxpaint/stamps"
    for path in sorted(folder.rglob("*.png")):
        source = path.relative_to(folder)
        kind = class_of(source)
        image = cut_out(path) if kind else None
        if kind is None or image is None:
            continue
        target = Path(kind.replace(" ", "-"), f"{source.stem.lower().replace('_', '-')}.webp")
        if (OUT / target).exists():
            raise SystemExit(f"Two stamps would be written to {target}; the second is {source}.")
        (OUT / target).parent.mkdir(parents=True, exist_ok=True)
        image.save(OUT / target, quality=80, alpha_quality=90, method=6)
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[0].strip().rstrip(".")
        yield {
            "file": target.as_posix(),
            "class": kind,
            "name": caption,
            "source": path.relative_to(package).as_posix(),
            "source_sha256": digest(path),
        }


def write_backgrounds(packages: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Write the backgrounds, cropped to 4:3 around the middle, and yield their rows for `backgrounds.csv`."""
    width, height = BACKGROUND
    for name, background in BACKGROUNDS.items():
        path = packages[background.package] / background.source
        with Image.open(path) as file:
            image = file.convert("RGB")
        border = round(background.border * image.height)
        image = image.crop((0, border, image.width, image.height - border))
        scale = min(image.width / width, image.height / height)
        x, y = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        window = (x, y, x + scale * width, y + scale * height)
        target = OUT / "backgrounds" / f"{name}.webp"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.resize(BACKGROUND, Image.Resampling.LANCZOS, box=window).save(target, quality=80, method=6)
        yield {
            "file": f"backgrounds/{target.name}",
            "title": background.title,
            "author": background.author,
            "licence": background.licence,
            "package": f"{background.package.replace('_', '-')} {PACKAGES[background.package][0]}",
            "source": background.source,
            "changes": "cropped, scaled down, re-encoded",
            "source_sha256": digest(path),
        }


def write_table(path: Path, rows: Iterator[dict[str, str]]) -> int:
    """Write rows as CSV and return how many there are."""
    table = list(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return len(table)


def main() -> None:
    """Build the folder anew; the card and the licence texts in it stay."""
    parser = argparse.ArgumentParser(description="Build data/stamps from the packages.", epilog="See the docstring.")
    parser.add_argument("packages", type=Path, help="folder that holds the three Debian packages and the wheel")
    parser.add_argument("--any-version", action="store_true", help="accept packages with other bytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        packages = {
            name: unpack(options.packages, name, Path(scratch), any_version=options.any_version) for name in PACKAGES
        }
        for folder in {kind.replace(" ", "-") for kind in FOLDERS.values()} | {"backgrounds"}:
            shutil.rmtree(OUT / folder, ignore_errors=True)
        OUT.mkdir(parents=True, exist_ok=True)
        count = write_table(OUT / "stamps.csv", write_stamps(packages["tuxpaint-stamps-default"]))
        photographs = write_table(OUT / "backgrounds.csv", write_backgrounds(packages))
        for name in ("tuxpaint-stamps-default", "mate-backgrounds", "tuxpaint-data"):
            shutil.copyfile(packages[name] / "usr/share/doc" / name / "copyright", OUT / f"{name}.copyright.txt")
    print(f"{count} cut-outs and {photographs} backgrounds in {OUT}")


if __name__ == "__main__":
    main()
