//! Passwords: argon2id, two at once at most, since each takes 19 MiB and some tens of milliseconds; few more wait.

use argon2::{
    Argon2, PasswordHasher as _, PasswordVerifier as _,
    password_hash::{PasswordHash, SaltString},
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;

use super::Problem;

const AT_ONCE: usize = 2;
/// More than so many do not wait.
const WAITING: usize = 32;
const LONGEST: usize = 200;
const SHORTEST: usize = 8;

/// Checks passwords.
pub(super) struct Passwords {
    places: Semaphore,
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { places: Semaphore::new(AT_ONCE), waiting: Semaphore::new(WAITING) }
    }
}

impl Passwords {
    /// Is this the password that was hashed so? Without a hash it takes as long, so that names are not told apart.
    pub(super) async fn check(&self, hash: Option<&str>, password: &str) -> Result<bool, Problem> {
        if password.len() > LONGEST {
            return Ok(false);
        }
        let crowded = "many log in at once; try again in some seconds";
        let _waits = self.waiting.try_acquire().map_err(|_| Problem::new(429, "Too many logins", crowded))?;
        let _place = self.places.acquire().await.map_err(|_| Problem::new(503, "Ends", "this process ends"))?;
        let (hash, password) = (hash.map(str::to_owned), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || match &hash {
            Some(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            None => hashed(&password).is_err(),
        });
        checked.await.map_err(|error| Problem::new(500, "The password was not checked", error.to_string()))
    }
}

/// The hash of a new password, if it is one that may be chosen.
pub(in crate::api) async fn hash(password: String) -> Result<String, Problem> {
    let length = password.chars().count();
    if !(SHORTEST..=LONGEST).contains(&length) || password.len() > LONGEST {
        return Err(Problem::field("password", format!("expected {SHORTEST} to {LONGEST} characters")));
    }
    let hashing = tokio::task::spawn_blocking(move || hashed(&password));
    let failed = |why: String| Problem::new(500, "The password was not hashed", why);
    hashing.await.map_err(|error| failed(error.to_string()))?.map_err(failed)
}

fn hashed(password: &str) -> Result<String, String> {
    let mut random = [0_u8; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| "the system gives no random bytes".to_owned())?;
    let salt = SaltString::encode_b64(&random).map_err(|error| error.to_string())?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_by_its_hash_and_no_other_is() {
        let first = hash("correct horse".to_owned()).await.unwrap();
        assert!(first.starts_with("$argon2id$") && first != hash("correct horse".to_owned()).await.unwrap());
        let passwords = Passwords::default();
        assert_eq!(passwords.check(Some(&first), "correct horse").await, Ok(true));
        assert_eq!(passwords.check(Some(&first), "correct house").await, Ok(false));
        assert_eq!(passwords.check(None, "correct horse").await, Ok(false));
        assert!(hash("short".to_owned()).await.is_err());
        let all = passwords.waiting.acquire_many(u32::try_from(WAITING).unwrap()).await.unwrap();
        let refused = passwords.check(Some(&first), "correct horse").await;
        assert!(refused.is_err_and(|problem| problem.status == 429), "it does not wait");
        drop(all);
        assert_eq!(passwords.check(Some(&first), "correct horse").await, Ok(true));
    }
}
