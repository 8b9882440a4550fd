#!/usr/bin/env python3
"""An independent receipt verifier, written from docs/FORMATS.md alone.

    pip install blake3 cryptography        (a cryptography with ML-DSA: 50 has it)
    verify_receipt.py GENESIS RECEIPT [PINNED_BLOCK_ID ...]
    verify_receipt.py --vectors types/vectors/receipts.json

It checks ML-DSA-65 signatures. No Python library verifies dilithium3, so such a certificate is refused,
never assumed. Exit code: 0 valid, 1 not valid, 2 usage.
"""

import base64
import hashlib
import json
import re
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

SCHEMES = {"dilithium3": 1, "ml-dsa-65": 2}
KEY_BYTES, SIGNATURE_BYTES = 1952, 3309


class Fails(Exception):
    """A check failed: (its name, why)."""


def need(condition, check, why):
    if not condition:
        raise Fails(check, why)


def H(context, message):
    return blake3(message, derive_key_context=f"cairn 2026 {context} v1").digest()


def sha256(message):
    return hashlib.sha256(message).digest()


# --- Codec ---------------------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("bytes missing")
        self.at += count
        return self.data[self.at - count : self.at]

    def u(self, size):
        return int.from_bytes(self.take(size), "little")

    def bytes(self, most):
        length = self.u(4)
        if length > most:
            raise ValueError(f"{length} bytes where at most {most} are allowed")
        return self.take(length)

    def option(self):
        tag = self.u(1)
        if tag > 1:
            raise ValueError(f"option byte {tag}")
        return self.take(32) if tag else None

    def enum(self, allowed):
        value = self.u(1)
        if value not in allowed:
            raise ValueError(f"discriminant {value}")
        return value

    def end(self):
        if self.at != len(self.data):
            raise ValueError("bytes left over")


def read(check, data, decode):
    try:
        reader = Reader(data)
        value = decode(reader)
        reader.end()
        return value
    except (ValueError, UnicodeDecodeError) as error:
        raise Fails(check, str(error)) from None


def record(r):
    value = dict(version=r.u(1), seq=r.u(8), proof_id=r.take(32), kind=r.enum(range(17)), tree=r.enum((1, 2)),
                 root=r.take(32), leaves=r.u(8), sender=r.take(32), key_address=r.take(32),
                 on_behalf_of=r.option(), previous=r.option(), subject=r.option(),
                 reference=r.bytes(2**32).decode("utf-8"), metadata_hash=r.take(32), tx_id=r.take(32),
                 height=r.u(8), time_ms=r.u(8))
    if value["version"] != 1:
        raise ValueError("record version")
    return value


HEADER = [("version", 1), ("chain", 0), ("epoch", 8), ("view", 8), ("height", 8), ("parent", 0), ("parent_view", 8),
          ("time_ms", 8), ("proposer", 2), ("tx_root", 0), ("tx_count", 4), ("state_root", 0), ("anchors_root", 0),
          ("anchors_size", 8), ("anchors_sha256", 0), ("history_root", 0), ("validators", 0), ("next_validators", 0)]


def header(r):
    value = {name: r.u(size) if size else r.take(32) for name, size in HEADER}
    if value["version"] != 1:
        raise ValueError("header version")
    value["id"] = H("block", r.data[: r.at])
    return value


def validator_set(r):
    epoch, count = r.u(8), r.u(4)
    if not 1 <= count <= 1024:
        raise ValueError(f"{count} validators")
    members = []
    for _ in range(count):
        address, scheme = r.take(32), r.enum((1, 2))
        key = r.bytes(KEY_BYTES)
        members.append((address, scheme, key, r.u(8)))
        if len(key) != KEY_BYTES or members[-1][3] == 0:
            raise ValueError("key length or power")
    addresses = [member[0] for member in members]
    if sorted(set(addresses)) != addresses or sum(member[3] for member in members) >= 2**63:
        raise ValueError("order or total power")
    return dict(epoch=epoch, members=members, hash=H("validator-set", r.data[: r.at]))


def commit_cert(r):
    value = dict(epoch=r.u(8), view=r.u(8), block=r.take(32), signers=r.bytes(128))
    count = r.u(4)
    if count > 1024:
        raise ValueError(f"{count} signatures")
    value["signatures"] = [r.bytes(SIGNATURE_BYTES) for _ in range(count)]
    return value


# --- JSON ----------------------------------------------------------------------------------------


def parse(text):
    def unique(pairs):
        keys = [key for key, _ in pairs]
        need(len(set(keys)) == len(keys), "format", "repeated key")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        raise Fails("format", str(error)) from None


def fields(value, required, optional=()):
    need(isinstance(value, dict), "format", "not an object")
    need(set(required) <= set(value) <= set(required) | set(optional), "format", f"keys {sorted(value)}")
    return value


def hexed(text, count=32):
    need(isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{2 * count}}}", text), "format", f"hex {text!r:.80}")
    return bytes.fromhex(text)


def based(text):
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as error:
        raise Fails("format", f"base64: {error}") from None
    need(base64.b64encode(data).decode() == text, "format", "base64 is not canonical")
    return data


def items(value, least, most):
    need(isinstance(value, list) and least <= len(value) <= most, "format", "list")
    return value


def u64(value):
    need(type(value) is int and 0 <= value < 2**64, "format", f"integer {value!r}")
    return value


def receipt(text):
    it = fields(parse(text), ("version", "subject", "record", "anchor", "header", "finality"),
                ("batch", "epochs", "external"))
    need(u64(it["version"]) == 1, "format", "version")
    subject = fields(it["subject"], ("digest", "algorithm"), ("salt",))
    name = subject["algorithm"]
    need(isinstance(name, str) and re.fullmatch("[a-z0-9-]{1,32}", name), "format", "algorithm")
    out = dict(digest=hexed(subject["digest"]), salt=hexed(subject["salt"], 16) if "salt" in subject else b"",
               batch=None, record=based(it["record"]), header=based(it["header"]), epochs=[])
    if "batch" in it:
        batch = fields(it["batch"], ("index", "path"))
        out["batch"] = (u64(batch["index"]), [hexed(h) for h in items(batch["path"], 0, 64)])
    out["anchor"] = [hexed(h) for h in items(fields(it["anchor"], ("path",))["path"], 0, 64)]
    finality = it["finality"]
    if isinstance(finality, dict) and "checkpoint" in finality:
        need(fields(finality, ("checkpoint",))["checkpoint"] is True, "format", "checkpoint")
        out["certificate"] = None
    else:
        out["certificate"] = based(fields(finality, ("certificate",))["certificate"])
    for step in items(it["epochs"], 1, 2**20) if "epochs" in it else []:
        fields(step, ("headers", "certificate", "validators"))
        headers = [based(h) for h in items(step["headers"], 1, 2**20)]
        out["epochs"].append((headers, based(step["certificate"]), based(step["validators"])))
    if "external" in it:
        items(it["external"], 1, 64)
    return out


def genesis(text):
    """The chain and the epoch-0 set of a genesis file (its rules are the node's business; its hash is not)."""
    it = json.loads(text)
    number = lambda value, size: value.to_bytes(size, "little")
    params = it["params"]
    order = ("timeout_base_ms", "timeout_cap_ms", "drift_ms", "lag_max_ms", "interval_min_ms", "interval_idle_ms")
    canonical = number(it["version"], 1) + number(len(it["name"]), 4) + it["name"].encode() + number(it["time_ms"], 8)
    canonical += b"".join(number(params[name], 8) for name in order)
    canonical += number(params["block_bytes_max"], 4) + number(params["transaction_bytes_max"], 4)
    canonical += number(params["replay_window_ms"], 8)
    admission = it["admission"]
    canonical += b"\0" if admission == "open" else b"\1" + bytes.fromhex(admission["registrar"])
    members = number(len(it["validators"]), 4)
    for member in it["validators"]:
        key = bytes.fromhex(member["public_key"])
        scheme = SCHEMES[member["scheme"]]
        assert H("address", bytes([scheme]) + key).hex() == member["address"], "address"
        members += bytes.fromhex(member["address"]) + bytes([scheme]) + number(len(key), 4) + key
        members += number(member["power"], 8)
    chain = H("genesis", canonical + members)
    assert it.get("hash", chain.hex()) == chain.hex(), "the genesis file's hash"
    return chain, read("validators", number(0, 8) + members, validator_set)


# --- Verification --------------------------------------------------------------------------------


def climb(check, leaf, index, size, path, node):
    need(index < size, check, "index outside the tree")
    at, last, rest, top = index, size - 1, list(path), leaf
    while last > 0:
        if at & 1 or at < last:
            need(rest, check, "path too short")
            sibling = rest.pop(0)
            top = node(sibling, top) if at & 1 else node(top, sibling)
        at, last = at >> 1, last >> 1
    need(not rest, check, "path too long")
    return top


def check_batch(it, rec):
    need((it["batch"] is None) == (rec["leaves"] == 1), "batch", "a batch path exactly when there are several leaves")
    index, path = it["batch"] or (0, [])
    item, count = it["salt"] + it["digest"], rec["leaves"].to_bytes(8, "little")
    if rec["tree"] == 1:
        top = climb("batch", H("batch-leaf", item), index, rec["leaves"], path, lambda l, r: H("batch-node", l + r))
        root = H("batch-root", count + top)
    else:
        top = climb("batch", sha256(b"\0" + item), index, rec["leaves"], path, lambda l, r: sha256(b"\1" + l + r))
        root = sha256(b"\2" + count + top)
    need(root == rec["root"], "batch", "the subject does not lead to the record's root")


def check_certificate(check, data, head, members):
    cert = read(check, data, commit_cert)
    need((cert["epoch"], cert["view"], cert["block"]) == (head["epoch"], head["view"], head["id"]), check,
         "of another block")
    keys = members["members"]
    need(cert["epoch"] == members["epoch"] and cert["view"] > 0, check, "epoch or view")
    need(len(cert["signers"]) == (len(keys) + 7) // 8, check, "bitmap length")
    bits = [i for i in range(8 * len(cert["signers"])) if cert["signers"][i // 8] >> (i % 8) & 1]
    need(all(bit < len(keys) for bit in bits) and len(bits) == len(cert["signatures"]), check, "signers")
    need(3 * sum(keys[bit][3] for bit in bits) > 2 * sum(key[3] for key in keys), check, "no quorum")
    message = b"cairn-commit".ljust(16, b"\0") + head["chain"]
    message += cert["epoch"].to_bytes(8, "little") + cert["view"].to_bytes(8, "little") + cert["block"]
    for bit, signature in zip(bits, cert["signatures"]):
        need(keys[bit][1] == 2, check, "dilithium3 signatures cannot be checked here")
        try:
            MLDSA65PublicKey.from_public_bytes(keys[bit][2]).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise Fails(check, f"the signature of validator {bit}") from None


def hand_over(step, members, chain):
    check = "epochs"
    heads = [read(check, data, header) for data in step[0]]
    last = heads[0]
    need(last["chain"] == chain and last["epoch"] == members["epoch"] and last["validators"] == members["hash"], check,
         "the first header is not of this epoch")
    need(last["next_validators"] != last["validators"] and last["tx_count"] > 0, check, "it ends no epoch")
    for below, above in zip(heads, heads[1:]):
        linked = (above["parent"] == below["id"] and above["parent_view"] == below["view"]
                  and above["view"] > below["view"] and above["height"] == below["height"] + 1)
        same = all(above[name] == below[name] for name in ("chain", "epoch", "validators", "next_validators"))
        need(linked and same and above["tx_count"] == 0 and above["tx_root"] == H("tx-node", b""), check, "no carrier")
    check_certificate(check, step[1], heads[-1], members)
    following = read(check, step[2], validator_set)
    need(following["epoch"] == members["epoch"] + 1 and following["hash"] == last["next_validators"], check, "next set")
    return following


def verify(text, chain, members, pinned=()):
    """The record of a valid receipt; otherwise raises Fails."""
    it = receipt(text)
    rec, head = read("record", it["record"], record), read("header", it["header"], header)
    check_batch(it, rec)
    root = climb("anchor", H("anchor-leaf", it["record"]), rec["seq"], head["anchors_size"], it["anchor"],
                 lambda l, r: H("anchor-node", l + r))
    need(root == head["anchors_root"], "anchor", "the record does not lead to the anchor root")
    need(head["chain"] == chain, "chain", "of another chain")
    need(head["next_validators"] == head["validators"] or head["tx_count"] > 0, "carrier", "a carrier")
    if it["certificate"] is None:
        need(not it["epochs"], "epochs", "hand-overs beside a checkpoint")
        need(head["id"] in pinned, "checkpoint", "not pinned")
        return rec
    need(len(it["epochs"]) == head["epoch"], "epochs", "number of hand-overs")
    for step in it["epochs"]:
        members = hand_over(step, members, chain)
    need(head["epoch"] == members["epoch"] and head["validators"] == members["hash"], "validators", "another set")
    check_certificate("certificate", it["certificate"], head, members)
    return rec


def vectors(path):
    right = wrong = skipped = 0
    for group in json.load(open(path))["groups"]:
        chain, members = genesis(group["genesis"])
        for case in group["cases"]:
            pinned = [bytes.fromhex(block) for block in case["checkpoints"]]
            try:
                verify(case["receipt"], chain, members, pinned)
                failed, why = None, ""
            except Fails as fails:
                failed, why = fails.args
            if "dilithium3" in why:
                skipped += 1
            elif failed == case["fails"]:
                right += 1
            else:
                wrong += 1
                print(f"{group['scheme']}, {case['name']}: expected {case['fails']}, got {failed} ({why})")
    print(f"{right} as expected, {wrong} not, {skipped} dilithium3 certificates refused unchecked")
    return 1 if wrong or not right else 0


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--vectors":
        return vectors(arguments[1])
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    chain, members = genesis(open(arguments[0], encoding="utf-8").read())
    try:
        rec = verify(open(arguments[1], encoding="utf-8").read(), chain, members,
                     [bytes.fromhex(block) for block in arguments[2:]])
    except Fails as fails:
        print("not valid: {}: {}".format(*fails.args))
        return 1
    print(f"valid: anchored as record {rec['seq']} in block {rec['height']} at {rec['time_ms']} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
