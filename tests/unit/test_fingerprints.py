"""What rows add to a checksum, and where they are compared."""

from collections import Counter

from sync_server.fingerprints import BUCKETS, bucket_checksums, bucket_of, checksum_of, fingerprint

ROWS = [("note", str(number), 1 + number % 3) for number in range(2_000)]


class TestAChecksum:
    def test_does_not_depend_on_the_order(self) -> None:
        assert checksum_of(ROWS) == checksum_of(reversed(ROWS)) != 0

    def test_forgets_a_row_that_is_taken_out_again(self) -> None:
        assert checksum_of(ROWS) ^ fingerprint(*ROWS[0]) == checksum_of(ROWS[1:])

    def test_is_that_of_all_buckets_together(self) -> None:
        total = 0
        for one in bucket_checksums(ROWS):
            total ^= one
        assert total == checksum_of(ROWS)


class TestABucket:
    def test_is_of_the_row_and_not_of_its_version(self) -> None:
        before, after = bucket_checksums([("note", "a", 1)]), bucket_checksums([("note", "a", 2)])
        differing = [number for number in range(BUCKETS) if before[number] != after[number]]
        assert differing == [bucket_of("note", "a")]

    def test_holds_about_as_many_rows_as_any_other(self) -> None:
        sizes = Counter(bucket_of(kind, one) for kind, one, _ in ROWS)
        assert len(sizes) == BUCKETS
        assert max(sizes.values()) < 3 * len(ROWS) / BUCKETS
