//! Boards of the real world that QEMU simulates, with the device trees that Linux has for them.

use anyhow::Result;
use tests::case::{Case, expect_ready};
use xtask::qemu::{Board, Machine, Start};

use super::{Test, needed};

/// What the boards have besides what QEMU's virt board has.
const BOARDS: [(Board, &str); 2] = [
    // i.MX UART.
    (Board::Imx8mpEvk, "GICv3"),
    // GIC-400, auxiliary UART, spin table.
    (Board::Raspi4b, "GICv2"),
];

pub fn tests() -> Vec<Test> {
    let test = |(board, gic)| {
        Test::new(format!("board::{board}"), move |case| {
            comes_up(case, board, gic)
        })
    };
    BOARDS.into_iter().map(test).collect()
}

fn comes_up(case: &Case, board: Board, gic: &str) -> Result<()> {
    let trees = needed(
        &case.artifacts.device_trees,
        "no device trees (XEN_RS_DTB_DIR)",
    )?;
    let machine = Machine {
        dtb: board.device_tree().map(|name| trees.join(name)),
        ..Machine::board(board, Start::Kernel(case.artifacts.image.clone()))
    };
    let mut session = case.boot(&machine)?;
    expect_ready(&mut session, &machine, board.load_address())?;
    session.saw(&format!("gic: {gic}")).map(drop)
}
