//! Report lines: packed, bounded, all there.

use bytes::Bytes;
use spinor_consumers::{
    broker::{Address, Broker, Settlement},
    entry::{PACK_BYTES, PACK_LINES},
};

use super::fixture::{Fixture, consume, declare, end, number, packs, publish, take_many, with_queues, work};

fn line(number: usize) -> Bytes {
    Bytes::from(format!(r#"{{"is":"line","number":{number}}}"#))
}

fn wanted(count: usize) -> Vec<String> {
    let mut wanted: Vec<_> = (0..count).map(|number| String::from_utf8_lossy(&line(number)).into_owned()).collect();
    wanted.sort();
    wanted
}

fn sorted(packs: Vec<Vec<String>>) -> Vec<String> {
    let mut lines: Vec<_> = packs.into_iter().flatten().collect();
    lines.sort();
    lines
}

pub async fn the_lines_of_a_settle_arrive_packed<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&["images"]).await;
    publish(&broker, "images", 0..300).await;
    let mut subscription = consume(&broker, work("images"), 300).await;
    let receipts: Vec<_> = take_many(&mut subscription, 300)
        .await
        .into_iter()
        .map(|delivery| {
            let lines = vec![line(number(&delivery))];
            broker.settle(delivery, Settlement { lines, ..Settlement::default() })
        })
        .collect();
    for receipt in receipts {
        end(receipt).await.expect("settled");
    }
    let mut results = consume(&broker, Address::Results, 10).await;
    let packs = packs(&broker, &mut results, 300).await;
    assert!(packs.len() < 300, "nothing was packed");
    assert_eq!(sorted(packs), wanted(300));
}

pub async fn a_pack_has_at_most_500_lines<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    end(broker.report((0..1201).map(line).collect())).await.expect("reported");
    let mut results = consume(&broker, Address::Results, 10).await;
    let packs = packs(&broker, &mut results, 1201).await;
    assert!(packs.iter().all(|pack| pack.len() <= PACK_LINES));
    assert_eq!(sorted(packs), wanted(1201));
}

pub async fn a_pack_has_at_most_a_mebibyte_and_a_large_line_goes_alone<F: Fixture>() {
    let (_fixture, broker) = with_queues::<F>(&[]).await;
    let sizes = [400_000, 400_000, 400_000, 2_000_000, 10, 400_000, 10];
    let lines = sizes.iter().map(|size| Bytes::from(vec![b'x'; *size])).collect();
    end(broker.report(lines)).await.expect("reported");
    let mut results = consume(&broker, Address::Results, 10).await;
    let packs = packs(&broker, &mut results, sizes.len()).await;
    for pack in &packs {
        let bytes: usize = pack.iter().map(|line| line.len() + 1).sum();
        assert!(bytes <= PACK_BYTES || pack.len() == 1, "{} lines of {bytes} bytes", pack.len());
    }
    let mut got: Vec<_> = packs.iter().flatten().map(String::len).collect();
    got.sort_unstable();
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    assert_eq!(got, sizes);
}

pub async fn reports_without_a_delivery_arrive<F: Fixture>() {
    let (mut fixture, broker) = with_queues::<F>(&[]).await;
    let receipts: Vec<_> = (0..50).map(|number| broker.report(vec![line(number)])).collect();
    for receipt in receipts {
        end(receipt).await.expect("reported");
    }
    end(broker.report(vec![])).await.expect("nothing to report is no error");
    drop(broker);
    let broker = fixture.reopen().await;
    let mut results = consume(&broker, Address::Results, 10).await;
    assert_eq!(sorted(packs(&broker, &mut results, 50).await), wanted(50));
}

pub async fn the_search_copy_gets_the_same_lines<F: Fixture>() {
    let fixture = F::install(true).await;
    let broker = fixture.broker();
    declare(&broker, &["images"]).await;
    publish(&broker, "images", 0..20).await;
    let mut subscription = consume(&broker, work("images"), 20).await;
    for delivery in take_many(&mut subscription, 20).await {
        let lines = vec![line(number(&delivery))];
        end(broker.settle(delivery, Settlement { lines, ..Settlement::default() })).await.expect("settled");
    }
    end(broker.report((20..40).map(line).collect())).await.expect("reported");
    for from in [Address::Search, Address::Results] {
        let mut subscription = consume(&broker, from, 10).await;
        assert_eq!(sorted(packs(&broker, &mut subscription, 40).await), wanted(40));
    }
}
