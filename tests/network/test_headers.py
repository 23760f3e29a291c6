"""Header lines and the times in them."""

from furnisync.http.headers import parse_headers, read_date, read_retry_after

DATE = "Tue, 21 Sep 2027 10:00:10 GMT"
AT = 1_821_520_810.0


def test_the_last_answer_counts():
    lines = [
        b"HTTP/1.1 200 Connection established\r\n", b"X-Remaining-Today: 1\r\n", b"\r\n",
        b"HTTP/1.1 100 Continue\r\n", b"Date: never\r\n", b"\r\n",
        b"HTTP/1.1 200 OK\r\n", b"DATE:  x \r\n", b"Set-Cookie: a\r\n", b"set-cookie:b\r\n",
        b"no colon\r\n", b"\xe9: \xe8\r\n", b"\r\n",
    ]  # fmt: skip
    assert parse_headers(lines) == {"date": "x", "set-cookie": "a, b", "\xe9": "\xe8"}


def test_dates():
    assert read_date(DATE) == AT
    assert read_date("Tue, 21 Sep 2027 10:00:10") == AT  # in whatever time zone we are
    assert read_date("Tue, 21 Sep 2027 10:00:10 -0000") == AT
    assert read_date("nonsense") is read_date("") is read_date(None) is None
    assert read_date("Tue, 21 Sep 99999 10:00:10 GMT") is None


def test_a_date_to_wait_for_is_compared_with_the_servers_own_clock():
    later = "Tue, 21 Sep 2027 10:01:40 GMT"
    assert read_retry_after({"retry-after": later, "date": DATE}, now=0.0) == 90
    assert read_retry_after({"retry-after": later}, now=AT) == 90
    assert read_retry_after({"retry-after": later, "date": "broken"}, now=AT) == 90
    assert read_retry_after({"retry-after": DATE}, now=AT + 5) == 0
    assert read_retry_after({"retry-after": "1.5"}, now=AT) == 1.5
    assert read_retry_after({}, now=AT) is None
