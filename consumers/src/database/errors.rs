//! What a database's error means to who meets it: wait, ask a person, or bisect.

use sqlx::{mysql::MySqlDatabaseError, sqlite::SqliteError};

use super::{Keys, ResultsError};
use crate::tls;

/// The meaning of an error. What is not known means *wait*: a wrong *refused* would bury good rows.
#[allow(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub fn meaning(error: sqlx::Error) -> ResultsError {
    let text = error.to_string();
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Configuration(_) => {
                ResultsError::Misconfigured(text)
            }
            sqlx::Error::Encode(_) => ResultsError::Refused(text),
            _ => ResultsError::Unavailable(text),
        };
    };
    if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql(error.number(), error.code().unwrap_or_default(), text);
    }
    match database.try_downcast_ref::<SqliteError>() {
        Some(_) => sqlite(database.code().and_then(|code| code.parse().ok()).unwrap_or(0), text),
        None => ResultsError::Unavailable(text),
    }
}

/// A log-in that can only be mended by a person, with what to do; `None` for every other error.
pub fn refusal(error: &sqlx::Error, keys: &Keys) -> Option<String> {
    let Keys { address, password, authority } = keys;
    if let Some(why) = tls::explain_by(error, address, authority) {
        return Some(why);
    }
    if let sqlx::Error::Tls(why) = error {
        return Some(format!(
            "no TLS connection came about: {why}; set up TLS on the server, or take {authority} and `ssl-mode` away"
        ));
    }
    let database = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    let mend = match database.number() {
        1044 | 1049 => format!("check the name of the database in `{address}`, and the user's rights on it"),
        1045 | 1698 => format!(
            "check the user in `{address}`, and `{password}` in the secrets file; a server that wants TLS says the same"
        ),
        3159 => format!("the server takes TLS only: take `ssl-mode=DISABLED` out of `{address}`"),
        _ => return None,
    };
    Some(format!("{database}; {mend}"))
}

/// Was it a deadlock or a wait for a lock that another try may not meet?
pub fn is_deadlock(error: &ResultsError) -> bool {
    matches!(error, ResultsError::Unavailable(why) if why.starts_with(DEADLOCK))
}

/// Does a server say that the table is not there?
pub fn is_without_table(error: &sqlx::Error) -> bool {
    let database = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    database.is_some_and(|error| error.number() == 1146)
}

const DEADLOCK: &str = "deadlock: ";

fn sqlite(code: i32, text: String) -> ResultsError {
    // The low byte is the class, the rest says more.
    match code & 0xff {
        // TOOBIG, CONSTRAINT, MISMATCH
        18..=20 => ResultsError::Refused(text),
        // PERM, READONLY, CORRUPT, AUTH, NOTADB, and a statement that does not fit the schema.
        1 | 3 | 8 | 11 | 23 | 26 => ResultsError::Misconfigured(text),
        9 => ResultsError::Unavailable("the question took longer than 1 s and was ended".to_owned()),
        _ => ResultsError::Unavailable(text),
    }
}

fn mysql(number: u16, state: &str, text: String) -> ResultsError {
    match number {
        1205 | 1213 => ResultsError::Unavailable(format!("{DEADLOCK}{text}")),
        1969 | 3024 => ResultsError::Unavailable("the question took longer than 1 s and was ended".to_owned()),
        // Unknown database, access, table, column, function, syntax, authentication plug-ins.
        1044 | 1045 | 1049 | 1054 | 1064 | 1142 | 1143 | 1146 | 1227 | 1251 | 1305 | 1524 | 1698 | 3159 => {
            ResultsError::Misconfigured(text)
        }
        // A packet or row too large, a wrong value, a trigger's own SIGNAL.
        1118 | 1153 | 1301 | 1366 | 1406 | 1644 | 3988 => ResultsError::Refused(text),
        _ if state.starts_with("22") || state.starts_with("23") || state.starts_with("45") => {
            ResultsError::Refused(text)
        }
        _ => ResultsError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_waits_and_only_content_is_refused() {
        assert!(matches!(sqlite(13, String::new()), ResultsError::Unavailable(_)));
        assert!(matches!(sqlite(1555, String::new()), ResultsError::Refused(_)));
        assert!(matches!(sqlite(1043, String::new()), ResultsError::Refused(_)));
        assert!(matches!(mysql(1021, "HY000", String::new()), ResultsError::Unavailable(_)));
        assert!(matches!(mysql(1290, "HY000", String::new()), ResultsError::Unavailable(_)));
        assert!(matches!(mysql(1406, "22001", String::new()), ResultsError::Refused(_)));
        assert!(matches!(mysql(1045, "28000", String::new()), ResultsError::Misconfigured(_)));
        assert!(is_deadlock(&mysql(1213, "40001", String::new())));
    }
}
