"""The directive `wire-reference`: every message, enum and service of protos/v1, with the comments of its files.

The comments come out of the descriptors that protoc writes, so that the page cannot differ from the schema.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fedcore.protos.generate import ROOT, SOURCES

MESSAGES, ENUMS, SERVICES = 4, 5, 6  # numbers of FileDescriptorProto's fields, the first step of a comment's path
FIELDS, VALUES, METHODS = 2, 2, 2  # the same of DescriptorProto, EnumDescriptorProto and ServiceDescriptorProto
KINDS = {number: name[5:].lower() for name, number in FieldDescriptorProto.Type.items()}


def descriptors() -> FileDescriptorSet:
    """Return the descriptors of every proto file, comments included."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set.pb"
        options = [f"-I{ROOT}", f"-I{well_known}", f"--descriptor_set_out={target}", "--include_source_info"]
        if protoc.main(["protoc", *options, *SOURCES]):
            raise RuntimeError("protoc failed; see its message above")
        return FileDescriptorSet.FromString(target.read_bytes())


class WireReference(SphinxDirective):
    """`:::{wire-reference}`: one section a file, one table a message, enum or service."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        return [_section(file) for file in descriptors().file]


def _section(file: FileDescriptorProto) -> nodes.section:
    name = Path(file.name).name
    section = nodes.section("", nodes.title("", name), ids=[nodes.make_id(name)])
    comments = {
        tuple(each.path): each.leading_comments or each.trailing_comments for each in file.source_code_info.location
    }
    for index, service in enumerate(file.service):
        rows = [
            (
                method.name,
                f"{_stream(method.client_streaming)}{_short(method.input_type)}",
                comments.get((SERVICES, index, METHODS, place), ""),
            )
            for place, method in enumerate(service.method)
        ]
        section += _table(service.name, comments.get((SERVICES, index), ""), ("method", "request", "meaning"), rows)
    for index, message in enumerate(file.message_type):
        fields = [
            (field.name, _kind(field), comments.get((MESSAGES, index, FIELDS, place), ""))
            for place, field in enumerate(message.field)
        ]
        section += _table(_title(message), comments.get((MESSAGES, index), ""), ("field", "type", "meaning"), fields)
    for index, enum in enumerate(file.enum_type):
        rows = [
            (value.name, str(value.number), comments.get((ENUMS, index, VALUES, place), ""))
            for place, value in enumerate(enum.value)
        ]
        section += _table(enum.name, comments.get((ENUMS, index), ""), ("value", "number", "meaning"), rows)
    return section


def _title(message: DescriptorProto) -> str:
    return message.name


def _stream(streaming: bool) -> str:
    return "stream of " if streaming else ""


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _kind(field: FieldDescriptorProto) -> str:
    kind = _short(field.type_name) if field.type_name else KINDS[field.type]
    return f"list of {kind}" if field.label == FieldDescriptorProto.LABEL_REPEATED else kind


def _table(title: str, about: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[nodes.Node]:
    section = nodes.section("", nodes.title("", title), ids=[nodes.make_id(f"wire-{title}")])
    if about:
        section += nodes.paragraph(text=" ".join(about.split()))
    if rows:
        section += _rows(head, rows)
    yield section


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group.extend(nodes.colspec(colwidth=width) for width in (25, 25, 50))
    group += nodes.thead("", _row(head, plain=True))
    group += nodes.tbody("", *(_row(row) for row in rows))
    return nodes.table("", group)


def _row(cells: tuple[str, ...], *, plain: bool = False) -> nodes.row:
    row = nodes.row()
    for place, cell in enumerate(cells):
        text = " ".join(cell.split())
        inner = (
            nodes.paragraph("", "", nodes.literal(text=text))
            if place == 0 and not plain
            else nodes.paragraph(text=text)
        )
        row += nodes.entry("", inner)
    return row


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("wire-reference", WireReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
