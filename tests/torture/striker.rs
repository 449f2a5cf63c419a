//! Carries out the plan, and keeps the fault log. Owns what a fault is made of, and that it ends.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    sync::Mutex as Lock,
    time::Duration,
};

use lapin::{Connection, ConnectionProperties, types::FieldTable};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{
    ledgers::{Left, Seconds, Strike, now},
    part::Part,
    plan::{Fault, Planned},
    stage::{MANY, Stage},
};
use crate::support::{proxy::Direction, servers::PrivateServer};

/// What the operator does ends within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Strikes a stage.
pub struct Striker<'a> {
    stage: &'a Stage,
    log: Lock<File>,
    left: Lock<Vec<Left>>,
}

impl<'a> Striker<'a> {
    /// With an empty fault log.
    pub fn new(stage: &'a Stage) -> Self {
        let path = stage.spinor.join("fault-log.ndjson");
        let log = OpenOptions::new().create(true).append(true).open(path).expect("a fault log");
        Self { stage, log: Lock::new(log), left: Lock::default() }
    }

    /// What it found that should not be.
    pub fn left(self) -> Vec<Left> {
        self.left.into_inner().expect("no striker panics")
    }

    fn noted(&self, fault: &str, part: &str, pid: Option<u32>, begun: Seconds) {
        let wall = jiff::Timestamp::now().to_string();
        let strike = Strike { fault: fault.to_owned(), part: part.to_owned(), pid, begun, ended: now(), wall };
        let line = serde_json::to_string(&strike).expect("JSON") + "\n";
        // For who watches the long form.
        println!("{begun:.1} to {:.1}: {fault} {part}", strike.ended);
        self.log.lock().expect("no striker panics").write_all(line.as_bytes()).expect("written");
    }

    /// One strike of the plan, to its end.
    pub async fn strike(&self, planned: Planned) {
        let Planned { fault, target, hold, .. } = planned;
        let stage = self.stage;
        match fault {
            Fault::Kill => self.kill("kill", &stage.consumers[target], hold).await,
            Fault::Freeze => self.freeze("freeze", &stage.consumers[target], hold).await,
            Fault::Restart => self.restart(&stage.consumers[target]).await,
            Fault::Cut | Fault::Tear | Fault::LoseConfirms | Fault::LoseRequests => {
                self.link(fault, target, hold).await;
            }
            Fault::RecorderKill => self.kill("recorder-kill", recorder(stage), hold).await,
            Fault::RecorderFreeze => self.freeze("recorder-freeze", recorder(stage), hold).await,
            Fault::DoorKill => self.kill("door-kill", stage.door.as_ref().expect("a door"), hold / 4).await,
            Fault::CloseConnections => self.close_connections().await,
            Fault::KillUnderAlarm => self.kill_under_alarm(target, hold).await,
            Fault::DiskAlarm => self.disk_alarm(hold).await,
            Fault::Unbind => self.unbind(hold).await,
            Fault::BrokerKill => self.kill_server("broker-kill", broker(stage), hold).await,
            Fault::BrokerFreeze => self.freeze_server("broker-freeze", broker(stage), hold).await,
            Fault::DatabaseKill => self.kill_server("database-kill", database(stage), hold).await,
            Fault::OnceKill => self.kill("kill", &stage.consumers[MANY + target], hold).await,
            Fault::OnceFreeze => self.freeze("freeze", &stage.consumers[MANY + target], hold).await,
            Fault::OnceLoseConfirms => self.link(Fault::LoseConfirms, MANY + target, hold).await,
            Fault::StateKill => self.kill_server("state-kill", state(stage), hold).await,
            Fault::StateFreeze => self.freeze_server("state-freeze", state(stage), hold).await,
            Fault::SearchKill => {
                if let Some(search) = &stage.search {
                    self.kill_server("search-kill", search, hold).await;
                }
            }
            Fault::SearchFreeze => {
                if let Some(search) = &stage.search {
                    self.freeze_server("search-freeze", search, hold).await;
                }
            }
            Fault::DatabaseFreeze => self.freeze_server("database-freeze", database(stage), hold).await,
        }
    }

    /// A part that ended without being told to is noted, and started again as a service manager would.
    pub async fn look_after(&self, part: &Mutex<Part>) {
        let mut part = part.lock().await;
        self.revive(&mut part);
    }

    fn revive(&self, part: &mut Part) {
        if let Some(log) = part.ended_by_itself() {
            let what = format!("{} ended by itself: {log}", part.name);
            self.left.lock().expect("no striker panics").push(Left { what });
            part.again(&self.stage.spinor);
        }
    }

    async fn kill(&self, fault: &str, part: &Mutex<Part>, hold: Duration) {
        let mut part = part.lock().await;
        self.revive(&mut part);
        let begun = now();
        part.kill().await;
        self.noted(fault, &part.name, Some(part.pid()), begun);
        sleep(hold / 2).await;
        part.again(&self.stage.spinor);
    }

    async fn freeze(&self, fault: &str, part: &Mutex<Part>, hold: Duration) {
        let mut part = part.lock().await;
        self.revive(&mut part);
        let begun = now();
        part.freeze();
        sleep(hold * 2).await;
        part.thaw();
        self.noted(fault, &part.name, Some(part.pid()), begun);
    }

    async fn restart(&self, part: &Mutex<Part>) {
        let mut part = part.lock().await;
        self.revive(&mut part);
        let begun = now();
        part.stop().await;
        self.noted("restart", &part.name, Some(part.pid()), begun);
        part.again(&self.stage.spinor);
    }

    async fn link(&self, fault: Fault, target: usize, hold: Duration) {
        let part = self.stage.consumers[target].lock().await;
        let proxy = &self.stage.proxies[target];
        let begun = now();
        let name = match fault {
            Fault::Tear => {
                proxy.tear();
                "tear"
            }
            Fault::LoseConfirms => {
                proxy.stall(Direction::ToClient);
                sleep(hold / 2).await;
                proxy.cut();
                "lose-confirms"
            }
            Fault::LoseRequests => {
                proxy.stall(Direction::ToServer);
                sleep(hold / 2).await;
                proxy.cut();
                "lose-requests"
            }
            _ => {
                proxy.cut();
                "cut"
            }
        };
        sleep(hold / 2).await;
        proxy.heal();
        self.noted(name, &part.name, Some(part.pid()), begun);
    }

    async fn close_connections(&self) {
        let begun = now();
        broker(self.stage).ctl(&["close_all_connections", "torture"]).await;
        self.noted("close-connections", "broker", None, begun);
    }

    async fn kill_under_alarm(&self, target: usize, hold: Duration) {
        let server = broker(self.stage);
        let begun = now();
        server.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
        // Consumers go on running and cannot report: what they have finished by now is with them alone.
        sleep(hold).await;
        self.kill("kill", &self.stage.consumers[target], Duration::ZERO).await;
        server.ctl(&["set_vm_memory_high_watermark", "0.6"]).await;
        self.noted("memory-alarm", "broker", None, begun);
    }

    async fn disk_alarm(&self, hold: Duration) {
        let server = broker(self.stage);
        let begun = now();
        server.ctl(&["set_disk_free_limit", "900000GB"]).await;
        sleep(hold).await;
        server.ctl(&["set_disk_free_limit", "50MB"]).await;
        self.noted("disk-alarm", "broker", None, begun);
    }

    /// Of our objects only bindings of delay tiers are taken away: a tier's queue keeps what is in
    /// it, and what is published afterwards comes back to its publisher. A queue deleted with jobs
    /// in it takes them along, whoever deletes it. Whoever binds it again meanwhile does so in vain, so
    /// that something is published in that time for certain.
    async fn unbind(&self, hold: Duration) {
        let begun = now();
        let prefix = &self.stage.site.as_ref().expect("a site").prefix;
        let name = format!("{prefix}.delay.1s");
        let unbound = timeout(PATIENCE, async {
            let url = broker(self.stage).url();
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let unbind = async || {
                let (queue, key) = (name.as_str().into(), name.as_str().into());
                channel.queue_unbind(queue, key, "".into(), FieldTable::default()).await
            };
            unbind().await?;
            while now() < begun + hold.as_secs_f64() && unbind().await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, lapin::Error>(())
        });
        unbound.await.expect("in time").expect("unbound");
        self.noted("unbind", "broker", None, begun);
    }

    async fn kill_server(&self, fault: &str, server: &PrivateServer, hold: Duration) {
        let begun = now();
        server.kill9().await;
        sleep(hold / 2).await;
        server.restart().await;
        self.noted(fault, fault.trim_end_matches("-kill"), None, begun);
    }

    async fn freeze_server(&self, fault: &str, server: &PrivateServer, hold: Duration) {
        let begun = now();
        server.freeze().await;
        sleep(hold * 2).await;
        server.thaw().await;
        self.noted(fault, fault.trim_end_matches("-freeze"), None, begun);
    }
}

fn recorder(stage: &Stage) -> &Mutex<Part> {
    stage.recorder.as_ref().expect("a recorder of its own")
}

fn broker(stage: &Stage) -> &PrivateServer {
    stage.broker.as_ref().expect("a broker of its own")
}

fn database(stage: &Stage) -> &PrivateServer {
    stage.database.as_ref().expect("a database of its own")
}

fn state(stage: &Stage) -> &PrivateServer {
    stage.state.as_ref().expect("a Redis of its own")
}
