//! The connection: one, shared, made anew when it breaks.
//!
//! Owns the bound of each step, the loading of scripts, what an error means, and the look at the
//! server's settings: a Redis that forgets is no place for state. Refuses to show a password.

use std::{
    collections::HashMap,
    error::Error,
    path::Path,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisError,
    ServerErrorKind, TlsCertificates, Value, aio::MultiplexedConnection, cmd,
};
use tokio::sync::Mutex;

use super::{Script, StateError};
use crate::{read_ca_file, tls};

/// The bytes of a script's arguments.
pub type Arguments = Vec<Vec<u8>>;

/// For one answer, and for one connect: before the bound of the whole call, so that a connection
/// that is silent is noticed and replaced.
const ANSWER: Duration = Duration::from_millis(1500);

/// The server and the way to it.
pub struct Link {
    client: Client,
    settings: AsyncConnectionConfig,
    place: String,
    /// With its number, so that a broken one is thrown away once.
    connection: Mutex<(u64, Option<MultiplexedConnection>)>,
    /// What the server calls the scripts.
    loaded: StdMutex<HashMap<Script, String>>,
}

impl Link {
    /// Reads the address and the file of authorities; connects to nothing yet.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, StateError> {
        tls::install_tls_provider();
        let wrong = |why: &str| StateError::Misconfigured(format!("the state address is wrong: {why}"));
        // The client's own words may hold the address, and that a password.
        let info = url.into_connection_info().map_err(|error| wrong(error.category()))?;
        let place = info.addr().to_string();
        let client = match ca_file {
            Some(file) => {
                let pem = read_ca_file(file).map_err(StateError::Misconfigured)?;
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.into_bytes()) };
                Client::build_with_tls(info, certificates)
                    .map_err(|error| StateError::Misconfigured(format!("{}: {error}", file.display())))?
            }
            None => Client::open(info).map_err(|error| wrong(error.category()))?,
        };
        let settings =
            AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
        Ok(Self { client, settings, place, connection: Mutex::default(), loaded: StdMutex::default() })
    }

    /// Sees that the server answers and keeps what it is told.
    pub async fn check(&self) -> Result<String, StateError> {
        let text: String = self.ask(&cmd("INFO")).await?;
        judge(&self.place, &text)
    }

    /// Does it lose its last moments when it is killed? Redis puts a write off while its file is
    /// being synchronised. Not known where the user may not ask: then no.
    pub async fn loses_moments(&self) -> bool {
        let setting: Result<Vec<String>, _> = self.ask(cmd("CONFIG").arg("GET").arg("appendfsync")).await;
        setting.is_ok_and(|pair| pair.get(1).is_some_and(|policy| policy != "always"))
    }

    /// Calls a script; a connection that breaks is made anew once, since every call may be repeated.
    pub async fn call<T: FromRedisValue>(
        &self,
        script: Script,
        prefix: &str,
        arguments: Arguments,
    ) -> Result<T, StateError> {
        let name = match self.name_of(script) {
            Some(name) => name,
            None => self.load(script).await?,
        };
        let call = |name: &str| {
            let mut call = cmd("EVALSHA");
            call.arg(name).arg(1).arg(prefix);
            for argument in &arguments {
                call.arg(argument.as_slice());
            }
            call
        };
        let answer = match self.raw(&call(&name)).await {
            // The server was started anew, and has none of ours.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let name = self.load(script).await?;
                self.raw(&call(&name)).await
            }
            answer => answer,
        };
        self.typed(answer)
    }

    fn name_of(&self, script: Script) -> Option<String> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(&script).cloned()
    }

    async fn load(&self, script: Script) -> Result<String, StateError> {
        let name: String = self.ask(cmd("SCRIPT").arg("LOAD").arg(script.text())).await?;
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(script, name.clone());
        Ok(name)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StateError> {
        let answer = self.raw(command).await;
        self.typed(answer)
    }

    fn typed<T: FromRedisValue>(&self, answer: Result<Value, RedisError>) -> Result<T, StateError> {
        let value = answer.map_err(|error| self.meaning(&error))?;
        T::from_redis_value(value).map_err(|_| super::strange())
    }

    async fn raw(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut tries = 0;
        loop {
            let (number, mut connection) = self.connection().await?;
            match command.query_async(&mut connection).await {
                Err(error) if error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() => {
                    self.forget(number).await;
                    tries += 1;
                    if tries > 1 || error.is_timeout() {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut held = self.connection.lock().await;
        if let (number, Some(connection)) = &*held {
            return Ok((*number, connection.clone()));
        }
        let connection = self.client.get_multiplexed_async_connection_with_config(&self.settings).await?;
        *held = (held.0 + 1, Some(connection.clone()));
        Ok((held.0, connection))
    }

    async fn forget(&self, number: u64) {
        let mut held = self.connection.lock().await;
        if held.0 == number {
            held.1 = None;
        }
    }

    /// Lets the connection go.
    pub async fn close(&self) {
        self.connection.lock().await.1 = None;
    }

    fn meaning(&self, error: &RedisError) -> StateError {
        let place = &self.place;
        let code = error.code().unwrap_or_default();
        let login = matches!(code, "WRONGPASS" | "NOAUTH" | "NOPERM")
            || matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm));
        if login {
            return StateError::Misconfigured(format!(
                "{place}: {error}; check the user in `state`, and `state_password` in the secrets file"
            ));
        }
        if let Some(why) = tls::explain(cause(error), "state") {
            return StateError::Misconfigured(format!("{place}: {why}"));
        }
        if error.kind() == ErrorKind::InvalidClientConfig {
            return StateError::Misconfigured(format!("{place}: {error}"));
        }
        StateError::Unavailable(format!("{place}: {error}"))
    }
}

/// What is within an error of the client, which hides it behind a shared pointer.
fn cause(error: &RedisError) -> &(dyn Error + 'static) {
    match error.source().and_then(|within| within.downcast_ref::<Arc<dyn Error + Send + Sync>>()) {
        Some(within) => &**within,
        None => error,
    }
}

/// What a server says of itself: its version, when it will do.
fn judge(place: &str, info: &str) -> Result<String, StateError> {
    let value = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    };
    // While it reads its log it says that it keeps none.
    if value("loading") == "1" {
        return Err(StateError::Unavailable(format!("{place}: this Redis still reads what it kept")));
    }
    if value("aof_enabled") == "0" {
        return Err(StateError::Misconfigured(format!(
            "{place}: this Redis forgets at a restart what it was told; state needs `appendonly yes` in its \
             configuration, at once and lasting by: CONFIG SET appendonly yes, CONFIG REWRITE"
        )));
    }
    let policy = value("maxmemory_policy");
    if !matches!(policy, "" | "noeviction") {
        return Err(StateError::Misconfigured(format!(
            "{place}: this Redis throws keys away when its memory is full (`maxmemory-policy {policy}`); state needs \
             `noeviction`, or a Redis of its own"
        )));
    }
    Ok(value("redis_version").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_still_reads_its_log_is_waited_for_and_one_that_keeps_none_is_refused() {
        let info = |loading, kept| format!("redis_version:7.0.15\r\nloading:{loading}\r\naof_enabled:{kept}\r\n");
        assert!(matches!(judge("h", &info(1, 0)), Err(StateError::Unavailable(_))));
        assert!(matches!(judge("h", &info(0, 0)), Err(StateError::Misconfigured(_))));
        assert_eq!(judge("h", &info(0, 1)).unwrap(), "7.0.15");
    }
}
