/// Finds the items that fail, when `all_hold` can only judge several at once: halves what fails until single items remain.
///
/// Costs one call when all hold, and about `2 · bad · log2(items)` otherwise.
pub(crate) fn bisect<T>(items: &[T], all_hold: &mut dyn FnMut(&[T]) -> bool) -> Vec<bool> {
    if items.is_empty() {
        Vec::new()
    } else if all_hold(items) {
        vec![true; items.len()]
    } else if items.len() == 1 {
        vec![false]
    } else {
        let (left, right) = items.split_at(items.len() / 2);
        let mut verdicts = bisect(left, all_hold);
        verdicts.extend(bisect(right, all_hold));
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::bisect;

    #[test]
    fn exactly_the_bad_items_are_found() {
        for bad in 0u32..1 << 7 {
            let items: Vec<bool> = (0..7).map(|bit| bad & (1 << bit) == 0).collect();
            assert_eq!(bisect(&items, &mut |some| some.iter().all(|good| *good)), items);
        }
    }

    #[test]
    fn one_call_is_enough_where_all_hold() {
        let mut calls = 0;
        let verdicts = bisect(&[(); 1000], &mut |_| {
            calls += 1;
            true
        });
        assert_eq!((calls, verdicts.len()), (1, 1000));
    }
}
