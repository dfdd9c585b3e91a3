//! A straight line through measured points.

/// `y = intercept + slope × x`, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    /// How much of the variance the line explains, 0 to 1.
    pub(crate) r_squared: f64,
}

/// `None` for fewer than two different `x`.
pub(crate) fn line(points: &[(f64, f64)]) -> Option<Line> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let across = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    if points.len() < 2 || across <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / across;
    let intercept = mean_y - slope * mean_x;
    let total = points.iter().map(|(_, y)| (y - mean_y).powi(2)).sum::<f64>();
    let rest = points.iter().map(|(x, y)| (y - intercept - slope * x).powi(2)).sum::<f64>();
    let r_squared = if total > 0.0 { 1.0 - rest / total } else { 1.0 };
    Some(Line { slope, intercept, r_squared })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn points_on_a_line_give_that_line() {
        let points: Vec<_> =
            [2_000.0, 6_000.0, 10_000.0, 14_000.0, 18_000.0].map(|x| (x, 5e6 + 400.0 * x)).into();
        let line = line(&points).unwrap();
        assert!((line.slope - 400.0).abs() < 1e-6 && (line.intercept - 5e6).abs() < 1e-3, "{line:?}");
        assert!(line.r_squared > 0.999_999);
    }

    #[test]
    fn one_odd_point_bends_the_line_and_shows_in_r_squared() {
        let line = line(&[(1.0, 1.0), (2.0, 2.0), (3.0, 9.0)]).unwrap();
        assert!((line.slope - 4.0).abs() < 1e-9);
        assert!(line.r_squared < 0.9);
    }

    #[test]
    fn no_line_through_one_place() {
        assert_eq!(line(&[]), None);
        assert_eq!(line(&[(1.0, 1.0)]), None);
        assert_eq!(line(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }
}
