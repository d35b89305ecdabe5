"""An independent reader of checkpoint folders (docs/checkpoint_format.md), with the standard library alone.

    checkpoint_oracle.py FOLDER     checks every rule of the format and prints the tensors

Prints one line a tensor: name, dtype, shape of all shards together, CRC-32C of its bytes."""
import json
import os
import struct
import sys

SIZES = {"F32": 4, "U32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "U16": 2}
MIB = 1 << 20

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def unique(pairs):
    """An object of a JSON text, without names that stand twice."""
    assert len(dict(pairs)) == len(pairs), "a name stands twice"
    return dict(pairs)


def read_manifest(folder):
    with open(os.path.join(folder, "manifest.json"), "rb") as file:
        text = file.read()
    manifest = json.loads(text, object_pairs_hook=unique)
    found = manifest["manifest_crc32c"].encode()
    at = text.index(found)
    assert int(found, 16) == crc32c(text[:at] + b"00000000" + text[at + 8:]), "checksum of the manifest"
    assert manifest["format"] == "headroom-checkpoint" and manifest["version"] == 1
    assert manifest["kind"] in ("run", "model")
    assert all(isinstance(value, str) for value in manifest["meta"].values())
    return manifest


def read_file(folder, entry):
    with open(os.path.join(folder, entry["name"]), "rb") as file:
        data = file.read()
    assert len(data) == entry["bytes"], entry["name"]
    blocks = [data[i:i + MIB] for i in range(0, len(data), MIB)]
    assert ["%08x" % crc32c(block) for block in blocks] == entry["crc32c"], "checksum of " + entry["name"]
    return data


def read_safetensors(data):
    (length,) = struct.unpack("<Q", data[:8])
    assert (8 + length) % 4096 == 0, "alignment"
    header = json.loads(data[8:8 + length], object_pairs_hook=unique)
    at = 0
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        rows, columns = tensor["shape"]
        assert begin == at and end - begin == rows * columns * SIZES[tensor["dtype"]], name
        at = end
        yield name, tensor["dtype"], rows, columns, data[8 + length + begin:8 + length + end]
    assert 8 + length + at == len(data), "bytes after the last tensor"


def read_folder(folder):
    manifest = read_manifest(folder)
    tensors = {}
    names = [entry["name"] for entry in manifest["files"]]
    assert sorted(names + ["manifest.json"]) == sorted(os.listdir(folder)), "files"
    shards = sum(name.startswith("head-") for name in names)
    for number, entry in enumerate(manifest["files"]):
        data = read_file(folder, entry)
        if not entry["name"].endswith(".safetensors"):
            continue
        sharded = entry["name"] == "head-%05d-of-%05d.safetensors" % (number, shards)
        assert sharded or entry["name"] == "model.safetensors"
        for name, dtype, rows, columns, piece in read_safetensors(data):
            known = tensors.setdefault(name, [dtype, 0, columns, b""])
            assert known[0] == dtype and known[2] == columns, name
            if sharded and number > 0:  # a row belongs to one label or to a group of them
                assert number * manifest["shard_rows"] % known[1] == 0, name
            else:
                assert known[1] == 0, name
            known[1] += rows
            known[3] += piece
    return tensors


def main():
    for folder in sys.argv[1:]:
        for name, (dtype, rows, columns, data) in sorted(read_folder(folder).items()):
            print(name, dtype, rows, columns, "%08x" % crc32c(data))


if __name__ == "__main__":
    main()
