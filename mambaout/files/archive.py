"""Archives that `torch.save` wrote, looked at before they are unpacked: `torch.load` compares no checksums."""

import zipfile
from pathlib import Path

from mambaout.files.transfer import why


def check_archive(path: Path) -> None:
    """Refuse an archive that is damaged, or that would unpack to more than it is.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            if packed:  # torch.save never compresses
                raise ValueError(f"{packed[0]!r} is compressed, as torch.save never does")
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(f"it may have been truncated: {why(error)}") from error
    except Exception as error:  # a damaged directory raises one of many types
        raise ValueError(why(error)) from error
    if damaged:
        raise ValueError(f"{damaged!r} has another checksum")
