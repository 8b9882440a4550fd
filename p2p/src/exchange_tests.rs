use futures::io::Cursor;

use super::*;

#[tokio::test]
async fn a_frame_comes_back_as_it_was() {
    for length in [0, 1, FIRST_BUFFER_BYTES, FIRST_BUFFER_BYTES + 1, 1_000_000] {
        let body = vec![7; length];
        let mut written = Cursor::new(Vec::new());
        write_frame(&mut written, &body).await.unwrap();
        let mut reading = Cursor::new(written.into_inner());
        assert_eq!(read_frame(&mut reading, 1_000_000).await.unwrap(), body);
    }
}

#[tokio::test]
async fn an_announced_length_reserves_nothing_and_too_long_is_refused() {
    let mut cut = Cursor::new(4_000_000_u32.to_be_bytes().to_vec());
    let fault = read_frame(&mut cut, RESPONSE_BYTES_MAX).await.unwrap_err();
    assert_eq!(fault.kind(), io::ErrorKind::UnexpectedEof);
    let mut long = Cursor::new(u32::MAX.to_be_bytes().to_vec());
    let fault = read_frame(&mut long, RESPONSE_BYTES_MAX).await.unwrap_err();
    assert!(fault.to_string().contains("4194304"), "{fault}");
}

#[test]
fn requests_have_limits() {
    let exchange: Exchange<()> = Exchange::new();
    assert_eq!(exchange.check(REQUEST_BYTES_MAX), Ok(()));
    assert_eq!(exchange.check(REQUEST_BYTES_MAX + 1), Err(RequestFault::TooLong(REQUEST_BYTES_MAX + 1)));
    assert!(exchange.has_room());
}

#[tokio::test]
async fn no_answer_is_awaited_when_none_is_due() {
    let mut exchange: Exchange<()> = Exchange::new();
    let waited = tokio::time::timeout(Duration::from_millis(20), exchange.next_answer()).await;
    assert!(waited.is_err());
}
