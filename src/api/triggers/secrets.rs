//! A trigger without the secrets in the args of the job that it fires.

use serde_json::Value;
use spinor_consumers::{hidden::MASK, results::TriggerRow};
use spinor_executors::Json;

use super::ApiState;

/// What was asked for, without the secrets in the args of its job.
pub(super) fn hide_in(state: &ApiState, asked: &mut Json) {
    let hidden = state.schemas.hidden();
    let Ok(Value::Object(mut words)) = serde_json::from_slice(asked.bytes()) else { return };
    let Some(Value::Object(job)) = words.get_mut("job") else { return };
    let kind = job.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let hide = |value: &mut Value| {
        let args = Json::of(value).ok().and_then(|args| hidden.hide(&kind, &args));
        if let Some(shown) = args.and_then(|args| args.read().ok()) {
            *value = shown;
        }
    };
    job.get_mut("args").into_iter().for_each(hide);
    // Items may come to any place of the args: of a kind with secrets none is shown.
    if let Some(Value::Array(items)) = words.get_mut("each")
        && hidden.has_some(&kind)
    {
        items.iter_mut().for_each(|item| *item = Value::from(MASK));
    }
    if let Ok(shown) = Json::of(&words) {
        *asked = shown;
    }
}

/// A trigger as it is shown.
pub(super) fn shown(state: &ApiState, mut row: TriggerRow) -> TriggerRow {
    hide_in(state, &mut row.asked);
    row
}
