//! The programs of the other pages. A page may show less of a program than the file has.

#![allow(unsafe_code, reason = "a page shows what a program must promise for `partial_by_value`")]

sandpool_test_guests::programs! {
    child logging managers money partial pipe square tasks temporary
}
