"""Every declaration of ``_abi.py`` against ``include/greenapi.h``: the types as a C parser reads
them, the sizes, offsets and values as a C compiler computes them."""

import ctypes
import json
import re
import subprocess
from collections.abc import Iterator
from ctypes import POINTER, c_void_p
from pathlib import Path
from typing import Any

import pytest
from pycparser import c_ast, c_parser

import greenapi
from greenapi import _abi
from programs import not_on_windows

# They run a C compiler of Unix.
pytestmark = not_on_windows

HEADER = Path(__file__).parents[3] / "include" / "greenapi.h"

# The headers that greenapi.h includes, reduced to what a parser of plain C reads.
INCLUDES = {
    "stdbool.h": "typedef _Bool bool;",
    "stddef.h": "typedef unsigned long size_t;",
    "stdint.h": """
        typedef int int32_t;
        typedef long int64_t;
        typedef unsigned int uint32_t;
        typedef unsigned long uint64_t;
    """,
    "stdlib.h": "",
    "stdarg.h": "",
}

SCALARS: dict[str, Any] = {
    "bool": ctypes.c_bool,
    "char": ctypes.c_char,
    "double": ctypes.c_double,
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "greenapi_status": ctypes.c_int32,
    "greenapi_effect": ctypes.c_int32,
    "greenapi_fd": _abi.FD,
    "greenapi_result": _abi.ResultStruct,
    "greenapi_options": _abi.OptionsStruct,
    "greenapi_instance": _abi.InstanceStruct,
    "greenapi_progress_fn": "a callback, which Python has no use for",
}
OPAQUE = {"greenapi_client", "greenapi_list", "greenapi_queue"}
# Functions that wait; Python uses a queue instead, so that signal handlers run meanwhile.
UNUSED = {
    "greenapi_client_delete_instance",
    "greenapi_client_delete_instances",
    "greenapi_delete_instance",
    "greenapi_status_name",
}
PROTOTYPES = {
    name: function
    for name, function in vars(_abi._library).items()
    if name.startswith("greenapi_") and name not in UNUSED
}
STRUCTS = {
    "greenapi_instance": _abi.InstanceStruct,
    "greenapi_options": _abi.OptionsStruct,
    "greenapi_result": _abi.ResultStruct,
}


class Header:
    """The declarations of the header."""

    def __init__(self, tree: c_ast.FileAST) -> None:
        self.functions: dict[str, c_ast.FuncDecl] = {}
        self.callbacks: dict[str, c_ast.FuncDecl] = {}
        self.structs: dict[str, dict[str, Any]] = {}
        self.enumerators: list[str] = []
        self.macros: list[str] = []
        for node in tree.ext:
            self._declaration(node)

    def _declaration(self, node: c_ast.Node) -> None:
        kind = node.type
        if isinstance(node, c_ast.Decl) and isinstance(kind, c_ast.FuncDecl):
            self.functions[node.name] = kind
            return
        if isinstance(kind, c_ast.PtrDecl) and isinstance(kind.type, c_ast.FuncDecl):
            self.callbacks[node.name] = kind.type
            return
        inner = kind.type if isinstance(kind, c_ast.TypeDecl) else kind
        if isinstance(inner, c_ast.Enum) and inner.values:
            self.enumerators += [one.name for one in inner.values.enumerators]
        if isinstance(inner, c_ast.Struct) and inner.decls:
            name = inner.name or node.name
            self.structs[name] = {field.name: field.type for field in inner.decls}


def base_name(kind: c_ast.Node) -> str:
    """The name of a type other than a pointer."""
    assert isinstance(kind, c_ast.TypeDecl), kind
    if isinstance(kind.type, (c_ast.Struct, c_ast.Enum)):
        return str(kind.type.name)
    return " ".join(kind.type.names)


def as_ctypes(kind: c_ast.Node) -> Any:
    """The type that ctypes must use for a C type."""
    if isinstance(kind, c_ast.ArrayDecl):
        return as_ctypes(kind.type) * int(kind.dim.value, 0)
    if not isinstance(kind, c_ast.PtrDecl):
        name = base_name(kind)
        return None if name == "void" else SCALARS[name]
    target = kind.type
    if isinstance(target, c_ast.PtrDecl):
        assert base_name(target.type) in OPAQUE
        return POINTER(c_void_p)
    name = base_name(target)
    if name == "char":
        return ctypes.c_char_p
    if name == "void" or name in OPAQUE:
        return c_void_p
    return POINTER(SCALARS[name])


def signature(function: c_ast.FuncDecl) -> tuple[Any, list[Any]]:
    parameters = [as_ctypes(one.type) for one in function.args.params]
    return as_ctypes(function.type), [one for one in parameters if one is not None]


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Header:
    includes = tmp_path_factory.mktemp("include")
    for name, text in INCLUDES.items():
        (includes / name).write_text(text)
    command = ["cc", "-E", "-P", "-nostdinc", "-I", str(includes), str(HEADER)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    header = Header(c_parser.CParser().parse(text))
    macros = subprocess.run([*command, "-dM"], check=True, capture_output=True, text=True).stdout
    header.macros = re.findall(r"^#define (GREENAPI_\w+) \S", macros, re.MULTILINE)
    return header


@pytest.fixture(scope="module")
def compiled(header: Header, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes, offsets and values, as the C compiler has them."""
    expressions = [*header.enumerators, *header.macros]
    expressions += ["sizeof(greenapi_status)", "sizeof(greenapi_effect)"]
    for struct, fields in header.structs.items():
        expressions.append(f"sizeof({struct})")
        expressions += [f"offsetof({struct}, {field})" for field in fields]
    lines = [f'printf("%s\\"%s\\": %lld", comma, "{e}", (long long)({e}));' for e in expressions]
    directory = tmp_path_factory.mktemp("layout")
    source = directory / "layout.c"
    source.write_text(
        f'#include "{HEADER}"\n#include <stddef.h>\n#include <stdio.h>\n'
        'int main(void) {\nconst char *comma = "{";\n'
        + '\ncomma = ", ";\n'.join(lines)
        + '\nputs("}");\nreturn 0;\n}\n'
    )
    program = directory / "layout"
    subprocess.run(["cc", "-Wall", "-Werror", "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    values: dict[str, int] = json.loads(output)
    return values


def test_every_function_is_declared(header: Header) -> None:
    assert set(PROTOTYPES) | UNUSED == set(header.functions)


@pytest.mark.parametrize("name", sorted(PROTOTYPES))
def test_function_has_the_headers_types(header: Header, name: str) -> None:
    declared = PROTOTYPES[name]
    assert (declared.restype, list(declared.argtypes)) == signature(header.functions[name])


def test_every_struct_is_declared(header: Header) -> None:
    assert set(header.structs) == set(STRUCTS)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_struct_has_the_headers_layout(header: Header, compiled: dict[str, int], name: str) -> None:
    struct = STRUCTS[name]
    declared = [(field[0], field[1]) for field in struct._fields_]
    assert declared == [(field, as_ctypes(kind)) for field, kind in header.structs[name].items()]
    assert ctypes.sizeof(struct) == compiled[f"sizeof({name})"]
    for field, _ in declared:
        offset = compiled[f"offsetof({name}, {field})"]
        assert getattr(struct, field).offset == offset, field


def mirrored() -> Iterator[tuple[str, int]]:
    enums: list[tuple[str, type[_abi.Named]]] = [
        ("STATUS", _abi.Status),
        ("EFFECT", _abi.Effect),
        ("SESSION", _abi.Session),
        ("STATE", _abi.State),
    ]
    for prefix, enum in enums:
        for member in enum:
            yield f"GREENAPI_{prefix}_{member.name}", int(member)
    for name in ("FLAG", "LIST", "INSTANCE"):
        for constant, value in vars(_abi).items():
            if constant.startswith(f"{name}_"):
                yield f"GREENAPI_{constant}", value
    for part, number in zip(("MAJOR", "MINOR", "PATCH"), greenapi.__version__.split(".")):
        yield f"GREENAPI_VERSION_{part}", int(number)


def test_values_are_the_headers(header: Header, compiled: dict[str, int]) -> None:
    names = header.enumerators + header.macros
    assert dict(mirrored()) == {name: compiled[name] for name in names}
    assert compiled["sizeof(greenapi_status)"] == 4
    assert compiled["sizeof(greenapi_effect)"] == 4


def test_a_row_is_read_as_the_struct_lies() -> None:
    row = (2**64 - 1, -(2**63), -1, 2, 3, 2**32 - 1, b"text".ljust(224, b"\0"))
    struct = _abi.ResultStruct.from_buffer_copy(_abi._ROW.pack(*row))
    read = [getattr(struct, field[0]) for field in _abi.ResultStruct._fields_]
    assert read == [*row[:-1], b"text"]
    assert ctypes.sizeof(_abi.ResultStruct) == _abi._ROW.size


def test_an_instance_is_read_as_the_struct_lies() -> None:
    texts = b"v3".ljust(16, b"\0"), b"tariff".ljust(32, b"\0"), b"name".ljust(168, b"\0")
    fields = (1, 2, 3, 4, 5, 6, *texts)
    struct = _abi.InstanceStruct.from_buffer_copy(_abi._INSTANCE.pack(*fields))
    read = [getattr(struct, field[0]) for field in _abi.InstanceStruct._fields_]
    assert read == [*fields[:-3], b"v3", b"tariff", b"name"]
    assert ctypes.sizeof(_abi.InstanceStruct) == _abi._INSTANCE.size


def test_names_and_effects_are_the_librarys() -> None:
    name_of = _abi._library.greenapi_status_name
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.c_int32]
    for status in _abi.Status:
        assert name_of(status).decode() == f"GREENAPI_STATUS_{status.name}"
        assert _abi.status_message(status).endswith(".")
        effect = 0 if status < 10 else 1 if status < 30 else 2
        assert _abi.status_effect(status) is _abi.Effect(effect)
