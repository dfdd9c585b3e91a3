//! Figures of many turns: median, smallest and largest.

use serde::Serialize;

/// What is published of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) turns: usize,
}

/// `None` for an empty series or one that holds something that is not a number.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Spread { median, min: values[0], max: values[values.len() - 1], turns: values.len() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_median_of_odd_and_even_series() {
        let odd = spread([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max, odd.turns), (2.0, 1.0, 3.0, 3));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn a_series_without_numbers_has_no_spread() {
        assert_eq!(spread([]), None);
        assert_eq!(spread([1.0, f64::NAN]), None);
        assert_eq!(spread([f64::INFINITY]), None);
    }
}
