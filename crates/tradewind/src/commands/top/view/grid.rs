//! A table in a part of the window. What has no room is left out, and counted.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
    text::Span,
};

use super::{super::lists::List, span};
use crate::terminal::{Table, table::Cell};

/// Parts are a line apart if all can have as many lines as this, or all that they want.
const READABLE: u16 = 4;

/// With more columns than this left out, the others are only counted.
const NAMED_COLUMNS: usize = 3;
/// The last column, which says something in words, may be cut to this: no other has to go for the rest of it.
const WORDS_WIDTH: usize = 32;

/// What there was no room for.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    rows: Vec<String>,
    columns: Vec<String>,
}

impl Cuts {
    pub(super) fn text(&self) -> String {
        let (named, others) = self.columns.split_at(self.columns.len().min(NAMED_COLUMNS));
        let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let columns = (!named.is_empty()).then(|| format!("no room for {}{others}", named.join(", ")));
        self.rows.iter().cloned().chain(columns).collect::<Vec<_>>().join("; ")
    }

    fn rows(&mut self, shown: usize, all: usize, noun: &str) {
        if shown < all && !noun.is_empty() {
            self.rows.push(format!("{shown} of {all} {noun}"));
        }
    }

    fn column(&mut self, heading: &str) {
        if !self.columns.iter().any(|cut| cut == heading) {
            self.columns.push(heading.to_owned());
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Grid<'a> {
    headings: &'a [Cell],
    rows: Vec<&'a [Cell]>,
    selected: Option<usize>,
    expendable: &'a [&'a str],
    noun: &'a str,
}

impl<'a> Grid<'a> {
    pub(super) fn of_list(list: &'a List) -> Self {
        Self { headings: &list.headings, rows: list.rows.iter().map(|row| &*row.cells).collect(), ..Self::default() }
    }

    pub(super) fn of_table(table: &'a Table) -> Self {
        let Some((headings, rows)) = table.rows().split_first() else { return Self::default() };
        Self { headings, rows: rows.iter().map(Vec::as_slice).collect(), ..Self::default() }
    }

    /// Its row is marked, and stays in sight.
    pub(super) fn selected(self, selected: Option<usize>) -> Self {
        Self { selected, ..self }
    }

    /// Headings of the columns that go first where all do not fit.
    pub(super) fn expendable(self, expendable: &'a [&'a str]) -> Self {
        Self { expendable, ..self }
    }

    /// What rows are, in the plural: so they are counted when they do not all fit.
    pub(super) fn noun(self, noun: &'a str) -> Self {
        Self { noun, ..self }
    }

    /// With its headings.
    pub(super) fn height(&self) -> u16 {
        u16::try_from(self.rows.len() + 1).unwrap_or(u16::MAX)
    }

    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer, cuts: &mut Cuts) {
        if area.height < 2 {
            cuts.rows(0, self.rows.len(), self.noun);
            return;
        }
        let room = usize::from(area.height) - 1;
        cuts.rows(room.min(self.rows.len()), self.rows.len(), self.noun);
        let (gap, columns) = self.columns(usize::from(area.width), cuts);
        let last = self.rows.len().saturating_sub(room);
        let first = self.selected.map_or(0, |row| row.saturating_sub(room / 2)).min(last);
        self.line(self.headings, gap, &columns, area, buffer);
        for (number, y) in (first..self.rows.len()).zip(area.y + 1..area.bottom()) {
            let row = Rect { y, height: 1, ..area };
            self.line(self.rows[number], gap, &columns, row, buffer);
            if self.selected == Some(number) {
                buffer.set_string(area.x, y, ">", Style::new());
                buffer.set_style(row, Style::new().add_modifier(Modifier::REVERSED));
            }
        }
    }

    /// The space before each column, and the columns that are shown, with their widths.
    fn columns(&self, room: usize, cuts: &mut Cuts) -> (usize, Vec<(usize, usize)>) {
        let rows = || self.rows.iter().copied().chain([self.headings]);
        let width = |column: usize| rows().filter_map(|row| row.get(column)).map(cell_width).max().unwrap_or(0);
        let mut columns: Vec<_> = (0..self.headings.len()).map(|column| (column, width(column))).collect();
        // The mark stands in the first gap, which is always two wide.
        let needs = |columns: &[(usize, usize)], gap: usize| match columns {
            [] => 0,
            [others @ .., (_, words)] => {
                2 + others.iter().map(|(_, width)| width + gap).sum::<usize>() + words.min(&WORDS_WIDTH)
            }
        };
        if needs(&columns, 2) <= room {
            return (2, columns);
        }
        for heading in self.expendable {
            if needs(&columns, 1) <= room {
                break;
            }
            let named = |(column, _): &(usize, usize)| self.headings[*column].text().trim_end_matches('▼') == *heading;
            if columns.iter().any(named) {
                columns.retain(|column| !named(column));
                cuts.column(heading);
            }
        }
        (1, columns)
    }

    fn line(&self, cells: &[Cell], gap: usize, columns: &[(usize, usize)], area: Rect, buffer: &mut Buffer) {
        let mut x = area.x + 2;
        for (column, width) in columns {
            let Some(cell) = cells.get(*column) else { break };
            let room = area.right().saturating_sub(x);
            if room == 0 {
                break;
            }
            let text = span(cell.text(), cell.tone());
            let cut = text.width() > usize::from(room);
            buffer.set_span(x, area.y, &text, room);
            if cut {
                buffer.set_string(area.right() - 1, area.y, "…", Style::new());
            }
            x = x.saturating_add(u16::try_from(width + gap).unwrap_or(u16::MAX));
        }
    }
}

fn cell_width(cell: &Cell) -> usize {
    Span::raw(cell.text()).width()
}

/// Parts of one area from top to bottom, a line apart where there is room for that. Who wants little gets it; the
/// others share what is left.
pub(super) fn stack(area: Rect, wants: &[u16]) -> Vec<Rect> {
    let least: u16 = wants.iter().map(|want| want.min(&READABLE) + 1).sum();
    let gap = u16::from(least <= area.height.saturating_add(1));
    let mut left = area.height.saturating_sub(gap * (wants.len() as u16).saturating_sub(1));
    let mut heights = vec![0; wants.len()];
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|part| wants[*part]);
    for (done, part) in order.into_iter().enumerate() {
        let fair = left / (wants.len() - done) as u16;
        heights[part] = wants[part].min(fair);
        left -= heights[part];
    }
    let mut y = area.y;
    let place = |height| {
        let part = Rect { y, height, ..area };
        y += height + gap;
        part
    };
    heights.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heights(height: u16, wants: &[u16]) -> Vec<(u16, u16)> {
        let parts = stack(Rect::new(0, 2, 80, height), wants);
        parts.iter().map(|part| (part.y, part.height)).collect()
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_share() {
        assert_eq!(heights(20, &[4, 3, 5]), [(2, 4), (7, 3), (11, 5)]);
        assert_eq!(heights(12, &[4, 3, 5]), [(2, 4), (6, 3), (9, 5)]);
        assert_eq!(heights(13, &[4, 40, 90]), [(2, 4), (6, 4), (10, 5)]);
        assert_eq!(heights(1, &[4, 40]), [(2, 0), (2, 1)]);
        assert_eq!(heights(0, &[4]), [(2, 0)]);
        assert_eq!(heights(9, &[]), []);
    }
}
