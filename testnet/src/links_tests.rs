use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const WAY: Way = Way { from: 0, to: 1 };

fn weather(bytes_per_second: Option<u64>) -> Arc<Weather> {
    Arc::new(Weather {
        nodes: 2,
        links: Mutex::new(vec![Link::default(); 4]),
        changed: watch::Sender::new(()),
        delivered: (0..4).map(|_| AtomicU64::new(0)).collect(),
        bytes_per_second,
        free_at: Mutex::new(vec![Instant::now(); 4]),
    })
}

fn set(weather: &Weather, link: Link) {
    weather.links.lock()[weather.place(WAY)] = link;
    let _ = weather.changed.send(());
}

/// Two ends with one pumped direction between them.
async fn connected(weather: &Arc<Weather>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (near, far) = (TcpStream::connect(at).await.unwrap(), TcpStream::connect(at).await.unwrap());
    let (left, right) = (listener.accept().await.unwrap().0, listener.accept().await.unwrap().0);
    let weather = Arc::clone(weather);
    tokio::spawn(async move {
        let ((from, _keep), (_keep_too, to)) = (left.into_split(), right.into_split());
        pump::pump(&weather, WAY, from, to).await;
    });
    (near, far)
}

async fn receives(far: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn bytes_arrive_in_order_after_the_delay() {
    let weather = weather(None);
    set(
        &weather,
        Link { delay: Duration::from_millis(120), jitter: Duration::from_millis(40), ..Link::default() },
    );
    let (mut near, mut far) = connected(&weather).await;
    let began = Instant::now();
    near.write_all(b"first ").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    near.write_all(b"second").await.unwrap();
    receives(&mut far, b"first second").await;
    assert!(began.elapsed() >= Duration::from_millis(120), "{:?}", began.elapsed());
    assert_eq!(weather.delivered[weather.place(WAY)].load(Ordering::Relaxed), 12);
}

#[tokio::test]
async fn a_stalled_link_keeps_what_was_sent_and_delivers_it_later() {
    let weather = weather(None);
    let (mut near, mut far) = connected(&weather).await;
    near.write_all(b"before").await.unwrap();
    receives(&mut far, b"before").await;
    set(&weather, Link { flow: Flow::Stalled, ..Link::default() });
    near.write_all(b"held").await.unwrap();
    let mut got = [0; 4];
    let early = tokio::time::timeout(Duration::from_millis(150), far.read(&mut got)).await;
    assert!(early.is_err(), "bytes passed a stalled link");
    set(&weather, Link::default());
    receives(&mut far, b"held").await;
}

#[tokio::test]
async fn a_narrow_link_takes_the_time_that_its_bytes_need() {
    // 1 MB at 2 MB/s, which both sides of the link count one after the other: about a second.
    let weather = weather(Some(2_000_000));
    let (mut near, mut far) = connected(&weather).await;
    let began = Instant::now();
    let sent = vec![7; 1_000_000];
    let (written, ()) = tokio::join!(near.write_all(&sent), receives(&mut far, &sent));
    written.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
}

#[tokio::test]
async fn cutting_is_noticed_by_those_who_wait_for_an_open_link() {
    let weather = weather(None);
    set(&weather, Link { flow: Flow::Stalled, ..Link::default() });
    let waiting = tokio::spawn({
        let weather = Arc::clone(&weather);
        async move { weather.open(WAY).await }
    });
    tokio::task::yield_now().await;
    set(&weather, Link { flow: Flow::Cut, ..Link::default() });
    assert!(!waiting.await.unwrap());
    // Already cut: returns at once.
    weather.cut(WAY).await;
}
