"""The structs of src_c/xla_ffi.h are laid out as those of the header that jaxlib ships."""

import shutil
import subprocess
from pathlib import Path

import pytest

jax = pytest.importorskip("jax", reason="compares with the header of jaxlib")

ROOT = Path(__file__).parents[2]

# Ours, XLA's, and (our field, XLA's field).
STRUCTS = {
    ("fe_xla_extension", "XLA_FFI_Extension_Base"): [("struct_size",) * 2, ("type",) * 2, ("next",) * 2],
    ("fe_xla_buffer", "XLA_FFI_Buffer"): [("type", "dtype"), ("data",) * 2, ("n_dims", "rank"), ("dims",) * 2],
    ("fe_xla_buffers", "XLA_FFI_Args"): [("n", "size"), ("kinds", "types"), ("buffers", "args")],
    ("fe_xla_buffers", "XLA_FFI_Rets"): [("n", "size"), ("kinds", "types"), ("buffers", "rets")],
    ("fe_xla_name", "XLA_FFI_ByteSpan"): [("chars", "ptr"), ("n_chars", "len")],
    ("fe_xla_scalar", "XLA_FFI_Scalar"): [("type", "dtype"), ("value",) * 2],
    ("fe_xla_attrs", "XLA_FFI_Attrs"): [("n", "size"), ("kinds", "types"), ("names",) * 2, ("values", "attrs")],
    ("fe_xla_version", "XLA_FFI_Api_Version"): [("major", "major_version"), ("minor", "minor_version")],
    ("fe_xla_error_args", "XLA_FFI_Error_Create_Args"): [("message",) * 2, ("code", "errc")],
    ("fe_xla_api", "XLA_FFI_Api"): [("version", "api_version"), ("create_error", "XLA_FFI_Error_Create")],
    ("fe_xla_call", "XLA_FFI_CallFrame"): [(name,) * 2 for name in ("extensions", "api", "stage", "args", "attrs")],
    ("fe_xla_metadata", "XLA_FFI_Metadata"): [("version", "api_version"), ("traits",) * 2],
    ("fe_xla_metadata_extension", "XLA_FFI_Metadata_Extension"): [("metadata",) * 2],
}
GROWING = {"fe_xla_api", "fe_xla_call", "fe_xla_metadata"}  # XLA's have more fields at the end
RENAMED = {"extensions": "extension_start"}

TYPES = ("PRED", "S8", "S16", "S32", "S64", "U8", "U16", "U32", "U64", "F16", "F32", "F64", "C64", "BF16", "C128")
CONSTANTS = {
    "FE_XLA_MAJOR": "XLA_FFI_API_MAJOR",
    "FE_XLA_EXECUTE": "XLA_FFI_ExecutionStage_EXECUTE",
    "FE_XLA_METADATA": "XLA_FFI_Extension_Metadata",
    "FE_XLA_SCALAR_ATTR": "XLA_FFI_AttrType_SCALAR",
    "FE_XLA_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "FE_XLA_RESOURCE_EXHAUSTED": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "FE_XLA_OUT_OF_RANGE": "XLA_FFI_Error_Code_OUT_OF_RANGE",
    **{f"FE_XLA_{name}": f"XLA_FFI_DataType_{name}" for name in TYPES},
}


def assertions():
    for (ours, theirs), fields in STRUCTS.items():
        if ours not in GROWING:
            yield f"sizeof({ours}) == sizeof({theirs})"
        for our_field, their_field in fields:
            yield f"offsetof({ours}, {our_field}) == offsetof({theirs}, {RENAMED.get(their_field, their_field)})"
    for ours, theirs in CONSTANTS.items():
        yield f"(int){ours} == (int){theirs}"


def compiles(folder, claims):
    source = folder / "layout.c"
    lines = [
        '#include "xla/ffi/api/c_api.h"',
        '#include "xla_ffi.h"',
        *(f'_Static_assert({claim}, "{claim}");' for claim in claims),
    ]
    source.write_text("\n".join(lines))
    command = ["cc", "-std=gnu11", "-fsyntax-only", f"-I{ROOT / 'src_c'}", f"-I{jax.ffi.include_dir()}", str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_structs_and_constants_are_those_of_xla(tmp_path):
    outcome = compiles(tmp_path, assertions())
    assert outcome.returncode == 0, outcome.stderr
    assert compiles(tmp_path, ["sizeof(fe_xla_buffer) != sizeof(XLA_FFI_Buffer)"]).returncode != 0
