//! Every operation of the API, in one table: method, path, the role it needs, handler, name, summary.
//!
//! Owns the table, and that a route is made together with the check of its role: there is no other way to make
//! one. Refuses to know who calls: `guard` says so.

use axum::{
    Router,
    extract::{Request, State},
    http::Method,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use spinor_consumers::access::Role;

use super::{
    ApiState, Problem, audit, broker, caller::Caller, cancel, consumers, data, dead, delayed, events, failures,
    figures, groups, jobs, kinds, locks, notices, openapi, page, pulse, queues, repeat, replays, runs, session, status,
    tokens, triggers, users, wait, why,
};

/// One operation.
#[derive(Debug)]
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, with the names of what is in it in braces.
    pub path: &'static str,
    /// Its name, different from all others.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The role it needs; none: it answers everybody.
    pub role: Option<Role>,
    /// Is it about what is nobody's alone, so that a role for some queues and kinds is not enough?
    pub everywhere: bool,
    route: fn() -> MethodRouter<ApiState>,
}

/// What may stand in the column of roles, and whether the role must be one without a pattern.
mod needs {
    use super::Role;

    pub const ANYBODY: (Option<Role>, bool) = (None, false);
    pub const VIEWER: (Option<Role>, bool) = (Some(Role::Viewer), false);
    pub const PUBLISHER: (Option<Role>, bool) = (Some(Role::Publisher), false);
    pub const OPERATOR: (Option<Role>, bool) = (Some(Role::Operator), false);
    pub const OPERATOR_OF_ALL: (Option<Role>, bool) = (Some(Role::Operator), true);
    pub const ADMIN: (Option<Role>, bool) = (Some(Role::Admin), true);
}

macro_rules! operations {
    ($($method:ident $path:literal $role:ident $handler:path, $name:ident $summary:literal;)*) => {
        /// All of them, by path.
        pub static OPERATIONS: &[Operation] = &[$(Operation {
            method: Method::$method,
            path: $path,
            name: stringify!($name),
            summary: $summary,
            role: needs::$role.0,
            everywhere: needs::$role.1,
            route: || on(MethodFilter::$method, $handler),
        }),*];
    };
}

operations! {
    GET "/" ANYBODY page::index, page "The page.";
    GET "/assets/{name}" ANYBODY page::asset, pageAsset "A file of the page.";
    GET "/healthz" ANYBODY status::healthz, health "Whether the process answers.";
    GET "/readyz" ANYBODY status::readyz, ready "Whether jobs can be published and looked up.";
    GET "/metrics" VIEWER status::metrics, metrics "Figures in the text form of Prometheus.";
    POST "/api/v1/session" ANYBODY session::open, logIn "A login against a cookie.";
    DELETE "/api/v1/session" ANYBODY session::close, logOut "The end of a login.";
    GET "/api/v1/session" VIEWER session::show, whoAmI "Who asks, and what it may do.";
    GET "/api/v1/users" ADMIN users::list, listUsers "Users and their roles.";
    POST "/api/v1/users" ADMIN users::add, addUser "Adds a user.";
    PUT "/api/v1/users/{name}/password" ADMIN users::password, setPassword "Another password, which ends the sessions of a user.";
    PUT "/api/v1/users/{name}/roles" ADMIN users::roles, setRoles "Other roles of a user.";
    DELETE "/api/v1/users/{name}" ADMIN users::remove, removeUser "Removes a user, and ends its sessions.";
    GET "/api/v1/tokens" ADMIN tokens::list, listTokens "Tokens and their roles; not the tokens themselves.";
    POST "/api/v1/tokens" ADMIN tokens::add, addToken "Makes a token; it is told this once.";
    DELETE "/api/v1/tokens/{name}" ADMIN tokens::remove, removeToken "Removes a token.";
    GET "/api/v1/audit" ADMIN audit::list, listActions "What was done, by whom, from where, and what came of it; the newest first.";

    GET "/api/v1/jobs" VIEWER jobs::list, listJobs "Jobs, the newest first.";
    POST "/api/v1/jobs" PUBLISHER jobs::publish, publishJobs "Publishes a job, or a list of them; answers once the broker has them.";
    POST "/api/v1/jobs/wait" VIEWER wait::wait_many, waitForJobs "Waits until all of these jobs have ended, or the time is over.";
    GET "/api/v1/jobs/{id}" VIEWER jobs::show, showJob "One job, with its executions.";
    PATCH "/api/v1/jobs/{id}" OPERATOR delayed::edit, editJob "Changes a delayed job while it waits.";
    POST "/api/v1/jobs/{id}/cancel" OPERATOR cancel::job, cancelJob "Asks for a job to end, or not to run.";
    GET "/api/v1/jobs/{id}/wait" VIEWER wait::wait, waitForJob "Waits for the end of a job, or until the time is over.";
    GET "/api/v1/jobs/{id}/why" VIEWER why::why, whyJob "The one reason why a job is not running.";
    POST "/api/v1/jobs/{id}/replay" OPERATOR dead::replay_job, replayJob "Starts a job anew that has ended, edited perhaps.";
    GET "/api/v1/delayed" VIEWER delayed::list, listDelayed "Delayed jobs, the next one first.";

    GET "/api/v1/dead" VIEWER dead::list, listDead "Dead letters, the newest first.";
    DELETE "/api/v1/dead" OPERATOR dead::remove, removeDead "Removes all dead letters that match.";
    GET "/api/v1/dead/{id}" VIEWER dead::show, showDead "One dead letter, with its message.";
    DELETE "/api/v1/dead/{id}" OPERATOR dead::remove_one, removeOneDead "Removes one dead letter.";
    POST "/api/v1/dead/{id}/replay" OPERATOR dead::replay, replayDead "Starts the job of a dead letter anew, edited perhaps.";
    GET "/api/v1/failures" VIEWER failures::list, listFailures "What failed, in groups, the last seen first.";
    GET "/api/v1/failures/{fingerprint}" VIEWER failures::show, showFailure "One group of failures, with its newest jobs.";
    GET "/api/v1/replays" VIEWER replays::list, listReplays "Orders to start anew all that match, the newest first.";
    POST "/api/v1/replays" OPERATOR replays::order, orderReplay "Starts anew all that match, at a rate.";
    GET "/api/v1/replays/{id}" VIEWER replays::show, showReplay "How far such an order is.";
    POST "/api/v1/replays/{id}/stop" OPERATOR replays::stop, stopReplay "Stops such an order.";

    GET "/api/v1/figures" VIEWER figures::figures, figures "How jobs ended, how long they waited and ran, over time and by kind.";
    GET "/api/v1/kinds" VIEWER kinds::list, listKinds "What can be run, by whom, with which args.";
    GET "/api/v1/kinds/{kind}" VIEWER kinds::show, showKind "One kind.";
    GET "/api/v1/queues" VIEWER queues::list, listQueues "Queues, and what waits on them.";
    POST "/api/v1/queues/{name}/pause" OPERATOR queues::pause, pauseQueue "Holds back the jobs of a queue.";
    POST "/api/v1/queues/{name}/resume" OPERATOR queues::resume, resumeQueue "Ends the pause of a queue.";
    GET "/api/v1/broker" VIEWER broker::show, showBroker "Our objects on the broker, wanted beside what is in force; or the files of the embedded one.";

    GET "/api/v1/consumers" VIEWER consumers::list, listConsumers "Consumers that are alive, and what they run.";
    GET "/api/v1/consumers/groups" VIEWER groups::list, listGroups "Groups of consumers, with wanted and running replicas.";
    GET "/api/v1/consumers/{name}" VIEWER consumers::show, showConsumer "One consumer.";
    POST "/api/v1/consumers/{name}/drain" OPERATOR_OF_ALL consumers::drain, drainConsumer "Lets a consumer take no more jobs, and end.";
    POST "/api/v1/consumers/{name}/slots" OPERATOR_OF_ALL consumers::slots, setConsumerSlots "How many jobs a consumer runs at once.";
    POST "/api/v1/groups/{name}/drain" OPERATOR_OF_ALL groups::drain, drainGroup "Drains every consumer of a group.";
    POST "/api/v1/groups/{name}/scale" OPERATOR_OF_ALL groups::scale, scaleGroup "How many consumers a group shall have.";
    POST "/api/v1/groups/{name}/slots" OPERATOR_OF_ALL groups::slots, setGroupSlots "How many jobs each consumer of a group runs at once.";
    GET "/api/v1/nodes" VIEWER runs::nodes, listNodes "The nodes that answer a ping.";

    GET "/api/v1/locks" VIEWER locks::list, listLocks "Limits and unique keys.";
    PUT "/api/v1/limits/{name}" OPERATOR_OF_ALL locks::set, setLimit "Bounds a limit.";
    DELETE "/api/v1/limits/{name}" OPERATOR_OF_ALL locks::unset, unsetLimit "Takes the bounds of a limit back.";
    DELETE "/api/v1/keys/{key}" OPERATOR_OF_ALL locks::free, freeKey "Frees a unique key.";

    GET "/api/v1/notices" OPERATOR_OF_ALL notices::list, listNotices "Notices, what came of them and why; the newest first.";

    GET "/api/v1/runs" VIEWER runs::list, listRuns "Runs, the newest first.";
    POST "/api/v1/runs" PUBLISHER runs::submit, submitRun "Publishes a run of jobs, or of plans for nodes.";
    GET "/api/v1/runs/{id}" VIEWER runs::show, showRun "One run, with its members.";
    POST "/api/v1/runs/{id}/cancel" OPERATOR cancel::run, cancelRun "Asks for every job of a run to end.";
    POST "/api/v1/runs/{id}/retry" OPERATOR runs::retry, retryRun "Does again what did not succeed of a run.";
    GET "/api/v1/runs/{id}/steps" VIEWER runs::steps, listSteps "The steps of a run of plans.";

    GET "/api/v1/triggers" VIEWER triggers::list, listTriggers "What fires when.";
    POST "/api/v1/triggers" OPERATOR triggers::add, addTrigger "Adds a trigger.";
    GET "/api/v1/triggers/{name}" VIEWER triggers::show, showTrigger "One trigger, with its coming and its last instants.";
    PUT "/api/v1/triggers/{name}" OPERATOR triggers::edit, editTrigger "Puts a trigger in the place of what it was.";
    DELETE "/api/v1/triggers/{name}" OPERATOR triggers::remove, removeTrigger "Removes a trigger.";
    POST "/api/v1/triggers/{name}/pause" OPERATOR triggers::pause, pauseTrigger "Pauses a trigger.";
    POST "/api/v1/triggers/{name}/resume" OPERATOR triggers::resume, resumeTrigger "Ends the pause of a trigger.";
    POST "/api/v1/triggers/{name}/fire" OPERATOR triggers::fire, fireTrigger "Fires a trigger now, beside its schedule.";
    POST "/api/v1/triggers/{name}/backfill" OPERATOR triggers::backfill, backfillTrigger "Fires the instants of a span that is past.";

    POST "/api/v1/data/prune" ADMIN data::prune, pruneData "Removes what is past its time.";
    POST "/api/v1/data/backup" ADMIN data::back_up, backUpData "Makes a backup on the machine of the process.";
    GET "/api/v1/events" VIEWER events::stream, streamEvents "What happens, live, as server-sent events.";
    GET "/api/v1/pulse" VIEWER pulse::stream, streamPulse "What happened in each second, as server-sent events.";
    GET "/api/v1/openapi.json" VIEWER openapi::show, apiDocument "The OpenAPI document of this API.";
    GET "/api/v1/status" VIEWER status::status, status "What runs, and how it is.";
}

/// The routes of all operations, each behind the check of its role, and written down where it changes something.
pub(super) fn router(state: &ApiState) -> Router<ApiState> {
    OPERATIONS.iter().fold(Router::new(), |router, operation| {
        let route = (operation.route)();
        let route = if repeat::is_remembered(operation) {
            route.route_layer(middleware::from_fn_with_state((state.clone(), operation), repeat::remember))
        } else {
            route
        };
        let checked = route.route_layer(middleware::from_fn_with_state(operation, check));
        // What is refused is written down, too.
        let followed = middleware::from_fn_with_state((state.clone(), operation), audit::follow);
        router.route(operation.path, checked.route_layer(followed))
    })
}

async fn check(
    State(operation): State<&'static Operation>,
    caller: Result<Caller, Problem>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = match operation.role {
        None => Ok(()),
        Some(role) if operation.everywhere => caller.and_then(|caller| caller.everywhere(role)),
        Some(role) => caller.and_then(|caller| caller.has(role)),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::OPERATIONS;

    #[test]
    fn each_operation_has_a_name_of_its_own_and_only_health_page_and_login_answer_everybody() {
        let names: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert_eq!(names.len(), OPERATIONS.len());
        let open = OPERATIONS.iter().filter(|operation| operation.role.is_none()).map(|operation| operation.name);
        assert_eq!(open.collect::<Vec<_>>(), ["page", "pageAsset", "health", "ready", "logIn", "logOut"]);
        for operation in OPERATIONS {
            assert!(operation.summary.ends_with('.'), "{}", operation.name);
        }
    }
}
