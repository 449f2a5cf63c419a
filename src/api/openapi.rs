//! The OpenAPI document: every operation with its parameters, its body and every answer.
//!
//! Made from the table of operations and the types that handlers read and write, so that it says what they do.
//! Served at `/api/v1/openapi.json`, printed by `spinor openapi`, kept at `docs/openapi.json`.

mod components;
mod shapes;

use std::collections::BTreeMap;

use axum::Json;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::{OPERATIONS, Operation, Problem, repeat};
use shapes::{Content, Shape, shape};

/// Served beside the API and no part of it.
const PAGE: [&str; 2] = ["page", "pageAsset"];
const COMPONENTS: &str = "/components/schemas";

/// `GET /openapi.json`.
pub(super) async fn show() -> Json<Value> {
    Json(document())
}

/// The document, as it is printed and kept.
pub fn text() -> String {
    format!("{:#}\n", document())
}

/// How requests are read and how answers are written differ: what has a default may be absent in one, and is
/// there in the other.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = COMPONENTS.into();
        settings.meta_schema = None;
    });
    let mut schemas =
        Schemas { read: settings.clone().into_generator(), written: settings.for_serialize().into_generator() };
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in OPERATIONS.iter().filter(|operation| !PAGE.contains(&operation.name)) {
        let Some(shape) = shape(operation.method.as_str(), operation.path) else { continue };
        let described = describe(operation, &shape, &mut schemas);
        paths.entry(operation.path).or_default().insert(operation.method.as_str().to_lowercase(), described);
    }
    schemas.written.subschema_for::<Problem>();
    let Schemas { mut read, mut written } = schemas;
    let mut paths = json!(paths);
    let components = components::merged(read.take_definitions(true), written.take_definitions(true), &mut paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Spinor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Publish jobs, look at them, steer what runs them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": problems(),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token; a browser that shows it once at `/api/v1/session` gets a cookie in its place.",
            }},
        },
    })
}

fn describe(operation: &Operation, shape: &Shape, schemas: &mut Schemas) -> Value {
    let mut parameters: Vec<Value> = in_path(operation.path).map(path_parameter).collect();
    if let Some(make) = shape.query {
        let schema = make(&mut schemas.read);
        parameters.extend(query_parameters(schema.as_value()));
    }
    if repeat::is_remembered(operation) {
        parameters.push(key_parameter());
    }
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [tag(operation.path)],
        "responses": responses(operation, shape, schemas),
        "security": if operation.role.is_some() { json!([{"token": []}]) } else { json!([]) },
    });
    if let Some(role) = operation.role {
        described["x-role"] = role.word().into();
    }
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some((make, required)) = shape.body {
        let schema = make(&mut schemas.read);
        described["requestBody"] = json!({"required": required, "content": {"application/json": {"schema": schema}}});
    }
    described
}

/// The names in braces.
fn in_path(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn tag(path: &str) -> &str {
    path.trim_start_matches("/api/v1").split('/').find(|part| !part.is_empty()).unwrap_or("page")
}

fn path_parameter(name: &str) -> Value {
    let schema = match name {
        "id" => json!({"type": "string", "format": "uuid"}),
        "fingerprint" => json!({"type": "string", "pattern": "^[0-9a-f]{16}$"}),
        _ => json!({"type": "string", "minLength": 1}),
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn key_parameter() -> Value {
    json!({
        "name": repeat::HEADER,
        "in": "header",
        "required": false,
        "description": "Sent again with the same key within a day, the request is not done again but answered as the first one was.",
        "schema": {"type": "string", "minLength": 1, "maxLength": repeat::LONGEST, "pattern": "^[ -~]+$"},
    })
}

/// The fields of an object, each as a parameter. None of them may be `null`: that is said by leaving it out.
fn query_parameters(object: &Value) -> Vec<Value> {
    let fields = object["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        without_null(&mut schema);
        let mut parameter = json!({"name": name, "in": "query", "required": false, "schema": schema});
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    fields.map(parameter).collect()
}

fn without_null(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("default");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.retain(|one| one["type"] != "null");
        if let [one] = &any[..] {
            *schema = one.as_object().cloned().unwrap_or_default();
        }
    }
}

fn responses(operation: &Operation, shape: &Shape, schemas: &mut Schemas) -> Map<String, Value> {
    let mut responses = Map::new();
    for (status, content) in &shape.answers {
        let mut answer = json!({"description": meaning(*status)});
        match content {
            Content::Json(make) => {
                answer["content"] = json!({"application/json": {"schema": make(&mut schemas.written)}});
            }
            Content::Text(kind) => answer["content"] = json!({*kind: {"schema": {"type": "string"}}}),
            Content::Nothing => {}
        }
        responses.insert(status.to_string(), answer);
    }
    let refusal = |status: u16| json!({"$ref": format!("#/components/responses/{}", name_of(status))});
    responses.extend(refusals(operation, shape).into_iter().map(|status| (status.to_string(), refusal(status))));
    responses
}

/// Every problem by its name.
fn problems() -> Map<String, Value> {
    let problem = |status: u16| {
        let schema = json!({"$ref": format!("#{COMPONENTS}/Problem")});
        let mut answer = json!({
            "description": meaning(status),
            "content": {"application/problem+json": {"schema": schema}},
        });
        if status == 503 {
            answer["headers"] = json!({"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}});
        }
        (name_of(status).to_owned(), answer)
    };
    REFUSALS.into_iter().map(problem).collect()
}

/// The statuses of problems that it may answer with.
fn refusals(operation: &Operation, shape: &Shape) -> Vec<u16> {
    let is_named = in_path(operation.path).next().is_some();
    let reads = is_named || shape.query.is_some() || shape.body.is_some();
    let mut statuses = vec![403, 500, 503];
    let may = [
        (400, reads),
        (401, operation.role.is_some() || operation.name == "logIn"),
        (404, is_named),
        (409, shape.conflicts || repeat::is_remembered(operation)),
        (413, shape.body.is_some()),
        (422, reads),
    ];
    statuses.extend(may.into_iter().filter_map(|(status, may)| may.then_some(status)));
    statuses
}

const REFUSALS: [u16; 9] = [400, 401, 403, 404, 409, 413, 422, 500, 503];

const fn name_of(refusal: u16) -> &'static str {
    match refusal {
        400 => "Unreadable",
        401 => "Unknown",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        413 => "TooLarge",
        422 => "WrongField",
        500 => "Fault",
        _ => "Unavailable",
    }
}

const fn meaning(status: u16) -> &'static str {
    match status {
        200 => "Done, or what was asked for.",
        201 => "Made.",
        202 => "Noted; it is done in a moment, or has not happened yet.",
        204 => "Done; there is nothing to say.",
        207 => "Some were accepted; each item says so.",
        400 => "The request cannot be read.",
        401 => "No token, or not the right one.",
        403 => "Not for this caller.",
        404 => "Nothing of that name or id.",
        409 => "How things stand does not allow it.",
        413 => "Too large.",
        422 => "A field is wrong; `field` names it.",
        500 => "A fault of Spinor's, or of its configuration.",
        _ => "Something it needs does not answer; try again.",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{OPERATIONS, PAGE, document};

    /// Every object in a document.
    fn each<'a>(value: &'a Value, look: &mut dyn FnMut(&'a Value)) {
        look(value);
        match value {
            Value::Object(fields) => fields.values().for_each(|value| each(value, look)),
            Value::Array(items) => items.iter().for_each(|item| each(item, look)),
            _ => {}
        }
    }

    #[test]
    fn each_operation_is_in_the_document_and_what_it_refers_to_as_well() {
        let document = document();
        let mut names = BTreeSet::new();
        each(&document["paths"], &mut |value| names.extend(value["operationId"].as_str()));
        let all: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert_eq!(all.difference(&names).copied().collect::<Vec<_>>(), PAGE, "without a line in `shapes`");
        each(&document, &mut |value| {
            if let Some(target) = value["$ref"].as_str() {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
        });
    }
}
