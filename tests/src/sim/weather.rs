//! What goes wrong, and how often.

/// How bad the network is, in percent of operations.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// No connection.
    pub refused: u32,
    /// The relay has it, the OK does not come.
    pub answer_lost: u32,
    /// The event is sent twice.
    pub repeated: u32,
    /// A page breaks off.
    pub cut: u32,
    /// A process is killed after an input.
    pub killed: u32,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Self = Self {
        refused: 0,
        answer_lost: 0,
        repeated: 0,
        cut: 0,
        killed: 0,
    };
    /// Everything goes wrong now and then.
    pub const STORM: Self = Self {
        refused: 15,
        answer_lost: 12,
        repeated: 10,
        cut: 12,
        killed: 3,
    };
}
