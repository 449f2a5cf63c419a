"""Requests that nobody would send on purpose, by a seed: the same ones each time.

Owns what is sent. Refuses to judge: an answer that the document does not name ends the program.
"""

import json
import random
import time

from asking import Undocumented

# What would hang about, stop the others, or write where it likes; each is asked rudely in its fields only.
LEFT_OUT = {"streamEvents", "streamPulse", "drainConsumer", "drainGroup", "pauseQueue", "backUpData", "removeDead"}
MOST_FAULTS = 20
TEXTS = [
    "", " ", "\0", "a\0b", "\r\nX: y", "..", "../../etc/passwd", "%00", "%", "{}", "'\"`;--", "ä\u202e\U0001f980", "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "a" * 300, "é" * 200, "9" * 400, "-1", "1e999", "NaN", "null", "true", "0s", "99999999999999999999d", "1/0s", "0/1s",
    "9999-12-31T23:59:59Z", "-009999-01-01T00:00:00Z", "2030-02-30T00:00:00Z", "01980000-0000-7000-8000-000000000000",
    "00000000-0000-0000-0000-000000000000", "default", "default.high", "noop", "* * * * *", "0 0 30 2 *", "Mars/Olympus",
]
NUMBERS = [0, -1, 1, 255, 256, 2**31, 2**32, 2**63, 2**64, 2**70, 1e308, -1e-308, 1.5, 10**40]
BODIES = [
    b"", b"{", b"\xff\xfe", b"\0", b"[]", b"null", b"7", b'"', b"{}" * 2, b"[" * 5000, b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"kind":"noop","kind":"noop"}', b'{"kind":"\\ud800"}', b'{"kind":"noop","args":1e999999}', b"\xef\xbb\xbf{}", b"[[]]",
]
HEADERS = [
    {}, {}, {}, {}, {"Content-Type": "text/plain"}, {"Content-Type": "\xff"}, {"Accept": "image/png"},
    {"Authorization": "Bearer \xe4"}, {"Authorization": "Basic Og=="}, {"Cookie": "spinor-80=;;=;" + "a" * 3000},
    {"X-Long": "x" * 6000}, {"Accept-Encoding": "*;q=0"}, {"Origin": "null"}, {"Host": "evil.example"},
    {"Idempotency-Key": "\xe4" * 40}, {"Idempotency-Key": ""}, {"Idempotency-Key": "k" * 5000}, {"traceparent": "zz"},
]


class Rude:
    def __init__(self, api, seed):
        self.api, self.dice = api, random.Random(seed)

    def value(self, schema, depth=0):
        """Mostly something of the schema's form, now and then anything."""
        if depth > 5 or self.dice.random() < 0.12:
            return self.dice.choice([None, True, [], {}, self.dice.choice(TEXTS), self.dice.choice(NUMBERS), [[{}]]])
        if not isinstance(schema, dict):
            return self.value({"type": self.dice.choice(["string", "number"])}, depth + 1)
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return self.value(self.api.document["components"]["schemas"][name], depth + 1)
        for many in ("anyOf", "oneOf"):
            if many in schema:
                chosen = self.value(self.dice.choice(schema[many]), depth + 1)
                rest = self.fields(schema, depth)
                return {**chosen, **rest} if isinstance(chosen, dict) else chosen
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.dice.choice(schema["enum"])
        kind = schema.get("type", "string")
        kind = self.dice.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            return self.fields(schema, depth)
        if kind == "array":
            return [self.value(schema.get("items", {}), depth + 1) for _ in range(self.dice.choice([0, 1, 1, 2, 5]))]
        if kind in ("integer", "number"):
            return self.dice.choice(NUMBERS)
        return {"boolean": True, "null": None}.get(kind, self.dice.choice(TEXTS))

    def fields(self, schema, depth):
        needed = schema.get("required", [])
        fields = schema.get("properties", {}).items()
        return {name: self.value(form, depth + 1) for name, form in fields if name in needed or self.dice.random() < 0.3}

    def body(self, name, operation):
        if "requestBody" not in operation:
            return None
        if self.dice.random() < 0.15:
            return self.dice.choice(BODIES)
        body = self.value(operation["requestBody"]["content"]["application/json"]["schema"])
        if name == "waitForJobs" and isinstance(body, dict):
            body["timeout"] = self.dice.choice(["1ms", "0s", "x"])
        # Nobody's fault if a program does what it is told.
        text = json.dumps(body)
        return text.replace('"kind": "command"', '"kind": "noop"').encode()

    def query(self, name, operation):
        pairs = []
        for parameter in self.api.parameters(operation, "query"):
            if self.dice.random() < 0.4:
                pairs.append((parameter["name"], self.dice.choice([*TEXTS, *map(str, NUMBERS)])))
        if name == "waitForJob":
            pairs = [("timeout", "1ms")]
        if self.dice.random() < 0.1:
            pairs.append((self.dice.choice(["", "x", "limit", "\0"]), self.dice.choice(TEXTS)))
        if self.dice.random() < 0.05:
            return self.dice.choice(["&&&", "=", "%", "%ff%fe", "limit=1&limit=2", "a[]=1", "limit=%00"])
        return pairs

    def ask(self):
        name = self.dice.choice([name for name in self.api.operations if name not in LEFT_OUT])
        _, path, operation = self.api.operations[name]
        named = {field: self.dice.choice([*TEXTS, "\udcff\udcfe"]) or "x" for field in self.api.names_in(path)}
        # A path is resolved before it is sent, or is another path.
        named = {field: "x" if value in (".", "..") else value for field, value in named.items()}
        headers = self.dice.choice(HEADERS)
        self.api.ask(name, self.body(name, operation), path=named, query=self.query(name, operation), headers=headers)


def be_rude(api, seconds, seed):
    rude, asked, end, faults = Rude(api, seed), 0, time.monotonic() + seconds, {}
    while time.monotonic() < end and len(faults) < MOST_FAULTS:
        try:
            rude.ask()
        except Undocumented as fault:
            faults.setdefault(str(fault).split("\n")[0], fault)
        asked += 1
    if faults:
        raise SystemExit("\n".join(map(str, faults.values())))
    return asked
