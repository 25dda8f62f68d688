//! The programs of the page `host/docs/from-multiprocessing.md`.

sandpool_test_guests::programs! {
    squares process terminate spawn family queue joinable_queue simple_queue pipe listener wait sentinel lock rlock semaphore
    event condition barrier value array raw_array shared_memory shareable_list manager managed pool imap apply_async initializer executor
    logging
}
