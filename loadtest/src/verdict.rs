//! The verdict: what was measured, against what may be.
//!
//! Decides that each figure with a budget passes or fails by itself, and that a run passes if all do.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::budget::{Budget, Figure};

/// What was measured.
pub type Figures = BTreeMap<Figure, f64>;

/// One figure against its budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Which.
    pub figure: Figure,
    /// How much there was.
    pub measured: f64,
    /// How much there may be.
    pub most: f64,
    /// Whether that is enough.
    pub passed: bool,
}

/// One line for each budget. A figure that was not measured fails.
#[must_use]
pub fn judge(figures: &Figures, budget: &Budget) -> Vec<Line> {
    let line = |(figure, most): (&Figure, &f64)| {
        let measured = figures.get(figure).copied().unwrap_or(f64::INFINITY);
        Line { figure: *figure, measured, most: *most, passed: measured <= *most }
    };
    budget.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_passes_up_to_its_budget_and_fails_above_it() {
        let budget: Budget = [(Figure::GapMsP99, 50.0), (Figure::CallsLost, 0.0), (Figure::Leaked, 0.0)].into();
        let figures: Figures = [(Figure::GapMsP99, 50.0), (Figure::CallsLost, 1.0), (Figure::DelayMsMax, 1e9)].into();
        let passed: Vec<(Figure, bool)> =
            judge(&figures, &budget).iter().map(|line| (line.figure, line.passed)).collect();
        assert_eq!(passed, [(Figure::CallsLost, false), (Figure::Leaked, false), (Figure::GapMsP99, true)]);
        let figures: Figures = [(Figure::GapMsP99, 50.001)].into();
        assert!(judge(&figures, &budget).iter().all(|line| !line.passed));
    }
}
