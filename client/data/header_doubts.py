"""What is wrong with the first line of a delimited file that lacks the asked columns."""

from collections.abc import Iterator, Sequence

SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
SHOWN = 4  # cells of a first line that a message quotes
LONGEST_NAME = 40  # characters of a column's name; more are a text
MOST_WORDS = 4  # words of a column's name; more are a text

NO_TABLES = (  # how files begin that were taken for tables, in lower case; what they are, and the remedy
    ("<!doctype", "a web page, not a table; fetch the file itself"),
    ("<html", "a web page, not a table; fetch the file itself"),
    ("<?xml", "XML, not a table; write it as CSV"),
    ("{", "JSON; call it .jsonl, or .json where it is one array"),
    ("[", "JSON; call it .jsonl, or .json where it is one array"),
    ("version https://git-lfs", "only a pointer of Git LFS; fetch its content with: git lfs pull"),
)
UTF_16 = "the file is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8"


def header_mistake(
    header: Sequence[str], following: Sequence[Sequence[str]], columns: Sequence[str], separator: str
) -> str | None:
    """Return what is wrong with a file and the remedy; None where it may be that the columns are called otherwise.

    `header` are the cells of the first line, which lacks one of `columns`, `following` those of the next rows, all
    parted at `separator`.
    """
    known = _other_format(header, columns, separator)
    if known is not None:
        return known
    other = _other_separator(header, following, columns, separator)
    if other is not None:
        names = ", ".join(_parted(header, separator, other))
        return (
            f"the file is separated by {SEPARATORS[other]}, not by {SEPARATORS.get(separator, repr(separator))}; "
            f"{_remedy(other)}; its columns: {names}"
        )
    if _is_row(header, following):
        quoted = ", ".join(repr(_cut(cell)) for cell in header[:SHOWN])
        return (
            f"no column {_first_missing(columns, header)!r}: the first line looks like a row, not like a header: "
            f"{quoted}; put a line with the columns' names above it, such as {separator.join(columns)}"
        )
    return None


def _other_format(header: Sequence[str], columns: Sequence[str], separator: str) -> str | None:
    """Return what a file is that is no table as its name says; None where nothing shows it."""
    beginning = separator.join(header).lstrip().lower()
    if "\0" in beginning:
        return UTF_16
    if beginning.startswith("sep="):
        return f"its first line, {header[0]!r}, is for Excel alone; delete it, and save the table with commas"
    if set(columns) <= {cell.strip('"') for cell in header}:
        return "its cells are in quotation marks, which a .tsv file does not have; write it without them, or as CSV"
    return next((f"the file is {what}" for mark, what in NO_TABLES if beginning.startswith(mark)), None)


def _other_separator(
    header: Sequence[str], following: Sequence[Sequence[str]], columns: Sequence[str], separator: str
) -> str | None:
    """Return the separator that gives the asked columns, or that gives several columns where there is one."""
    others = [other for other in SEPARATORS if other != separator]
    for other in others:
        if set(columns) <= set(_parted(header, separator, other)):
            return other
    if len(header) > 1 or not following:
        return None
    return next((other for other in others if _fits(header, following, separator, other)), None)


def _fits(header: Sequence[str], following: Sequence[Sequence[str]], separator: str, other: str) -> bool:
    """Whether all rows have as many cells under another separator as the first line, and more than one."""
    count = len(_parted(header, separator, other))
    return count > 1 and all(len(_parted(row, separator, other)) == count for row in following)


def _parted(cells: Sequence[str], separator: str, other: str) -> list[str]:
    return [cell.strip().strip('"') for cell in separator.join(cells).split(other)]


def _remedy(other: str) -> str:
    if other == "\t":
        return "call it .tsv, or save it with commas"
    if other == ",":
        return "call it .csv"
    return "save it with commas (in a spreadsheet: CSV UTF-8, comma delimited)"


def _is_row(header: Sequence[str], following: Sequence[Sequence[str]]) -> bool:
    """Whether a first line holds a text, a number, or a value that a row below has in the same column.

    Columns without names are numbered by some libraries: these numbers are names.
    """
    if list(header) in ([str(place) for place in range(len(header))], [str(place + 1) for place in range(len(header))]):
        return False
    below = [{row[place] for row in following if place < len(row)} for place in range(len(header))]
    return any(_is_value(cell) or cell in values for cell, values in zip(header, below, strict=True) if cell.strip())


def _is_value(cell: str) -> bool:
    return len(cell) > LONGEST_NAME or len(cell.split()) > MOST_WORDS or _is_number(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cut(cell: str) -> str:
    return cell if len(cell) <= LONGEST_NAME else f"{cell[: LONGEST_NAME - 3]}..."


def _first_missing(columns: Sequence[str], header: Sequence[str]) -> str:
    missing: Iterator[str] = (column for column in columns if column not in header)
    return next(missing)
