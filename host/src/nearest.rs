//! The nearest of several names to one that is wrong, for hints.

/// The longest name for which a nearest one is sought. This bounds the search, whose cost is the product of the lengths.
pub(crate) const LENGTH_MAX: usize = 64;

/// The name that the author of `name` may have meant.
pub(crate) fn nearest_name<'a>(names: impl IntoIterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    if name.len() > LENGTH_MAX {
        return None;
    }
    let names = names.into_iter().filter(|other| other.len() <= LENGTH_MAX);
    let distances = names.map(|other| (strsim::osa_distance(name, other), other));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / 3).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_several_names() {
        let nearest = |name| nearest_name(["score", "sort", "s"], name);
        assert_eq!(nearest("scroe"), Some("score"));
        assert_eq!(nearest("sot"), Some("sort"));
        assert_eq!(nearest("x"), None);
        assert_eq!(nearest("something"), None);
        assert_eq!(nearest(&"s".repeat(1000)), None);
        assert_eq!(nearest_name([], "score"), None);
    }
}
