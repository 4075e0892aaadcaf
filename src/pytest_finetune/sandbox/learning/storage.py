"""Fitted models as bytes: a NumPy archive of arrays, and a JSON manifest of everything else."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .choice import Choice
from .features import Size, Vector, Vocabulary
from .fitting import Head, Knowledge
from .linear import Softmax
from .recall import Recall
from .spans import Spans

_FORMAT = 1
_Arrays = dict[str, npt.NDArray[Any]]


def to_bytes(size: Size, knowledge: Knowledge) -> bytes:
    """Packs a model; what it answers does not change."""
    arrays: _Arrays = {}
    vocabularies: dict[int, str] = {}
    groups = {
        name: {field: _pack(head, arrays, vocabularies) for field, head in group.items()}
        for name, group in knowledge.groups.items()
    }
    arrays["manifest"] = _pack_text(json.dumps({"format": _FORMAT, "size": size, "groups": groups}))
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> tuple[Size, Knowledge]:
    """Unpacks a model.

    Raises:
        ValueError: The data is not a packed model.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        manifest = json.loads(_text(arrays["manifest"]))
        vocabularies: dict[str, Vocabulary] = {}
        groups = {
            name: {field: _unpack(packed, arrays, vocabularies) for field, packed in group.items()}
            for name, group in manifest["groups"].items()
        }
        return manifest["size"], Knowledge(groups)
    except (KeyError, TypeError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError("this is not a fitted model: fit it again from its training file") from error


def _pack(head: Head, arrays: _Arrays, vocabularies: dict[int, str]) -> dict[str, Any]:
    own = f"a{len(arrays)}"
    if isinstance(head, Spans):
        arrays[own] = _pack_text("\n".join(head.index))
        packed: dict[str, Any] = {"kind": "spans", "index": own, **_pack_softmax(head.softmax, arrays)}
        return packed | {name: getattr(head, name) for name in ("source", "many", "absent", "optional")}
    packed = {"vocabulary": _pack_vocabulary(head.vocabulary, arrays, vocabularies)}
    if isinstance(head, Choice):
        return packed | {"kind": "choice", "keys": head.keys, **_pack_softmax(head.softmax, arrays)}
    arrays |= {f"{own}.at": head.vectors.at, f"{own}.by": head.vectors.by, f"{own}.row_of": head.row_of}
    return packed | {"kind": "recall", "rows": own, "values": head.values}


def _unpack(packed: Mapping[str, Any], arrays: _Arrays, vocabularies: dict[str, Vocabulary]) -> Head:
    if packed["kind"] == "spans":
        index = {feature: place for place, feature in enumerate(_text(arrays[packed["index"]]).split("\n"))}
        described = {name: packed[name] for name in ("source", "many", "absent", "optional")}
        return Spans(**described, index=index, softmax=_unpack_softmax(packed, arrays))
    name = packed["vocabulary"]
    if name not in vocabularies:
        vocabularies[name] = _unpack_vocabulary(name, arrays)
    if packed["kind"] == "choice":
        return Choice(vocabularies[name], tuple(packed["keys"]), _unpack_softmax(packed, arrays))
    at, by, row_of = (arrays[f"{packed['rows']}.{part}"] for part in ("at", "by", "row_of"))
    return Recall(vocabularies[name], Vector(at, by), row_of, tuple(packed["values"]))


def _pack_softmax(softmax: Softmax, arrays: _Arrays) -> dict[str, str]:
    name = f"s{len(arrays)}"
    arrays[f"{name}.weights"] = softmax.weights
    arrays[f"{name}.bias"] = softmax.bias
    return {"softmax": name}


def _unpack_softmax(packed: Mapping[str, Any], arrays: _Arrays) -> Softmax:
    name = packed["softmax"]
    return Softmax(arrays[f"{name}.weights"], arrays[f"{name}.bias"])


def _pack_vocabulary(vocabulary: Vocabulary, arrays: _Arrays, names: dict[int, str]) -> str:
    name = names.setdefault(id(vocabulary), f"v{len(arrays)}")
    arrays[f"{name}.grams"] = _pack_text("\n".join([vocabulary.kind, str(vocabulary.unseen), *vocabulary.index]))
    arrays[f"{name}.idf"] = vocabulary.idf
    return name


def _unpack_vocabulary(name: str, arrays: _Arrays) -> Vocabulary:
    kind, unseen, *grams = _text(arrays[f"{name}.grams"]).split("\n")
    index = {gram: place for place, gram in enumerate(grams)}
    return Vocabulary(kind, index, arrays[f"{name}.idf"], float(unseen))


def _pack_text(text: str) -> npt.NDArray[Any]:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)


def _text(array: npt.NDArray[Any]) -> str:
    return array.tobytes().decode("utf-8", "surrogatepass")
