"""Asks a Spinor, and holds each answer against its own OpenAPI document.

Owns what counts as a documented answer: its status, its type, its form. Whatever is not is told, with the
request that brought it about.
"""

import http.client
import json
import re
import urllib.parse

import jsonschema

STREAM = "text/event-stream"


class Undocumented(Exception):
    """An answer that the document does not name."""


class Answer:
    def __init__(self, status, kind, body):
        self.status, self.kind, self.text = status, kind, body

    def json(self):
        return json.loads(self.text)


class Api:
    """A Spinor with its document."""

    def __init__(self, address, token):
        self.host = urllib.parse.urlsplit(address).netloc
        self.token = token
        self.document = self.raw("GET", "/api/v1/openapi.json").json()
        self.operations = {
            operation["operationId"]: (method.upper(), path, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }
        self.done = {name: set() for name in self.operations}
        self.checks = {}

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=60)
        given = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        try:
            connection.request(method, path, body=body, headers=given)
            response = connection.getresponse()
            kind = (response.getheader("Content-Type") or "").split(";")[0]
            # A stream has no end: its beginning tells what it is.
            text = response.readline() if kind == STREAM else response.read()
            return Answer(response.status, kind, text)
        finally:
            connection.close()

    def ask(self, name, body=None, path=None, query=None, headers=None):
        """One operation, and its answer, which is one that the document names."""
        method, where, operation = self.operations[name]
        for field, value in (path or {}).items():
            where = where.replace("{%s}" % field, urllib.parse.quote(value, safe="", errors="surrogateescape"))
        if query:
            where += "?" + (query if isinstance(query, str) else urllib.parse.urlencode(query))
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.raw(method, where, sent, headers)
        wrong = self.wrong(operation, answer)
        if wrong:
            raise Undocumented(f"{name}: {wrong}\n  {method} {where}\n  {headers or ''} {(sent or b'')[:2000]!r}\n  {answer.status} {answer.text[:2000]!r}")
        self.done[name].add(answer.status)
        return answer

    def good(self, name, *arguments, **named):
        """The same, and it did what it was asked."""
        answer = self.ask(name, *arguments, **named)
        if not 200 <= answer.status < 300:
            raise Undocumented(f"{name}: {answer.status} {answer.text[:2000]!r}")
        return answer.json() if answer.kind == "application/json" else answer.text

    def wrong(self, operation, answer):
        """What of an answer is not in the document; none when all is."""
        if answer.status >= 500:
            return "a fault"
        responses = operation["responses"]
        if str(answer.status) not in responses:
            return f"status {answer.status} is none of {', '.join(responses)}"
        response = responses[str(answer.status)]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        content = response.get("content", {})
        if not content:
            return "a body where none should be" if answer.text else None
        if answer.kind not in content:
            return f"type {answer.kind!r} is none of {', '.join(content)}"
        if not answer.kind.endswith("json"):
            return None
        schema = content[answer.kind]["schema"]
        key = json.dumps(schema, sort_keys=True)
        if key not in self.checks:
            whole = {**schema, "components": self.document["components"]}
            self.checks[key] = jsonschema.Draft202012Validator(whole)
        errors = [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in self.checks[key].iter_errors(answer.json())]
        problem = answer.json() if answer.kind == "application/problem+json" else None
        if problem and problem["status"] != answer.status:
            errors.append("the problem names another status")
        return "; ".join(errors[:3]) or None

    def parameters(self, operation, where):
        return [parameter for parameter in operation.get("parameters", []) if parameter["in"] == where]

    def names_in(self, path):
        return re.findall(r"\{(\w+)\}", path)
