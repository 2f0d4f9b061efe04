"""`mambaout fetch`: download the data files that are missing or broken, and released weights."""

from collections.abc import Sequence
from difflib import get_close_matches

from mambaout.files import data as files


def fetch_data(names: Sequence[str]) -> list[str]:
    """Download what is missing or broken of these files and folders; of all data when none is named.

    Returns:
        The problems that remain, one sentence each.

    Raises:
        DataError: a name is unknown. Nothing is downloaded then.
    """
    problems = []
    for entry in select(names):
        problem = files.check(entry)
        if problem is None:
            print(f"{entry.name}: already there")
            continue
        print(f"{entry.name}: {entry.bytes / 1e6:.2f} MB")
        try:
            files.fetch(entry.name)
        except files.DataError as error:
            problems.append(str(error))
    return problems


def select(names: Sequence[str]) -> list[files.Entry]:
    """The entries of the manifest that these names of files or folders mean.

    Raises:
        DataError: a name is unknown.
    """
    entries = files.manifest()
    folders = {name.partition("/")[0] for name in entries if "/" in name}
    selected: dict[str, files.Entry] = {}
    for name in (name.rstrip("/") for name in names):
        if name not in folders and name not in entries:
            near = get_close_matches(name, [*folders, *entries], n=3) or sorted(folders)
            raise files.DataError(f'There is no data "{name}". The nearest names: {", ".join(near)}.')
        selected |= {
            key: entry for key, entry in entries.items() if key == name or key.startswith(f"{name}/")
        }
    return list(selected.values()) if names else list(entries.values())


def fetch_weights(names: Sequence[str]) -> list[str]:
    """Download the released weights of these models into torch hub's folder; a damaged copy is replaced.

    Returns:
        The problems that remain, one sentence each.

    Raises:
        WeightsError: there are no released weights of that name. Nothing is downloaded then.
    """
    from mambaout.models.pretrained import URLS
    from mambaout.models.released import fetch_released
    from mambaout.models.weights import WeightsError

    for name in names:
        if name not in URLS:
            near = get_close_matches(name, URLS, n=3) or sorted(URLS)
            raise WeightsError(
                f'There are no released weights "{name}". The nearest names: {", ".join(near)}.'
            )
    problems = []
    for name in names:
        try:
            print(f"{name}: {fetch_released(name, replace=True)}")
        except WeightsError as error:
            problems.append(f"{name}: {error}")
    return problems
