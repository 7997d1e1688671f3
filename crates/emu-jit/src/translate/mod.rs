//! Translation of guest blocks to x86-64 code.
//!
//! A unit is the code that is translated at once: the blocks that direct branches reach from a start, if the
//! interpreter has met them. Outside of loops, guest registers are where [`crate::layout`] says at every
//! guest instruction, so blocks need not agree about registers; in a loop the registers may be elsewhere
//! ([`loops`]). The flags move from place to place ([`flags`]). Each instruction is lowered by itself; for a
//! few pairs, the words after it are read, too. Instructions without a lowering are handed to the interpreter
//! ([`Translator::fallback`]).

mod a32;
mod a64;
mod accesses;
mod ahead;
mod alu;
mod blocks;
mod condition;
mod flags;
mod leave;
mod loops;
mod operands;
mod order;
mod pressure;
mod rounds;
mod routines;
mod rv64;
mod vectors;

pub use routines::GUEST_ACCESS;

pub use ahead::{Ahead, Sight};
pub use blocks::{Blocks, branch_back, configuration_before, ends_block, translate, translate_alone};

use crate::host;
use crate::image::words::{self, Word};
use crate::layout::{Assignment, ExitKind, FPSR, MODES, PC, SCRATCH_MEMORY, Slot, slot};
use crate::mxcsr::{FLAGS, INVALID_MASK};
use crate::routines::Table;
use crate::thunks::Thunks;
use crate::unit::{EXACT, FLUSH, Keying, Link, Mark, Record, STANDARD, Unit};
use crate::wary::WarySet;
use accesses::{Accesses, Uses};
use alloc::boxed::Box;
use alloc::vec::Vec;
use condition::{Condition, Flags};
use core::ops::Range;
use crossdock_emu_guest::addresses::NONE;
use crossdock_emu_guest::guest::{Guest, Words};
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::{CodeLines, Op, State};
use crossdock_emu_x64::{Alu, Assembler, Cc, Label, Mem, Reg, Rm, Size};
use rounds::{Later, Zeros};

/// The outcome of lowering an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lowered {
    /// The code is written, for this many words in all.
    Words(usize),
    /// There is no lowering.
    No,
}

/// One instruction done.
const ONE: Lowered = Lowered::Words(1);

/// What the planner must know of an instruction: [`READS`] and the others.
#[derive(Clone, Copy)]
pub struct Class(u8);

/// Bits of a [`Class`]: the instruction reads the flags; it writes all of them; its code may access the
/// guest's memory; it may end a block. If [`Isa::FLAG_GROUPS`] is 2, the first two bits are of N and Z only.
const READS: u8 = 1 << 0;
const WRITES: u8 = 1 << 1;
const FAULTS: u8 = 1 << 2;
const ENDS: u8 = 1 << 3;
/// Bits of a [`Class`]: the instruction reads C or V; it writes both. They lie [`GROUP`] bits above those of
/// N and Z.
const READS_CV: u8 = READS << GROUP;
const WRITES_CV: u8 = WRITES << GROUP;
const GROUP: u32 = 4;
/// Bit of a [`Class`]: the instruction uses vector registers; only where
/// [`Isa::HAS_FACTS`].
const VECTORS: u8 = 1 << 6;

impl Class {
    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The block was cut and goes on at the next address.
    Next,
    /// A branch.
    Jump(u64),
    /// B.cond, CBZ, CBNZ, TBZ, TBNZ.
    Branch(u64),
    /// BL.
    Call(u64),
    /// BLR.
    CallRegister,
    /// BR.
    JumpRegister,
    /// RET.
    Return,
    /// SVC.
    Syscall,
    /// ISB.
    Synchronize,
    /// IC IVAU.
    Invalidate,
    /// MSR FPCR.
    SetMode,
    /// An instruction for the interpreter, after which the code leaves and the dispatcher looks for code
    /// again.
    Look,
}

/// An instruction set as the translator sees it.
pub trait Isa: Guest + Sized {
    /// The lower of two bits that no place has, for the mode of floating point in keys.
    const MODE_SHIFT: u32;

    /// Where the guest's registers are where code is entered and left.
    const STANDARD: &'static Assignment = &Assignment::STANDARD;

    /// An instruction of a block.
    type Item: Copy + core::fmt::Debug;

    /// Whether translated code can run from this state; if not, the next block is interpreted.
    fn can_run(state: &State) -> bool;

    /// The instruction at a place; `None` if it cannot be read.
    fn read(words: &mut Words<'_>, place: u64, context: &mut Self::Context) -> Option<Self::Item>;

    /// Whether [`Isa::of_decoded`] is cheaper than [`Isa::read`].
    const DECODED: bool = false;

    /// The instruction at a place where the interpreter has decoded it; `context` becomes that of the next.
    fn of_decoded(op: &Op, place: u64, context: &mut Self::Context) -> Option<Self::Item> {
        let _ = (op, place, context);
        None
    }

    /// Bytes of an instruction.
    fn item_length(item: &Self::Item) -> u64;

    /// The place of instruction `i` of a block that begins at `start`.
    fn place(items: &[Self::Item], start: u64, i: usize) -> u64;

    /// How many instructions of a block that begins at `start` lie before the place `at`; `None` if none of
    /// them begins there.
    fn count_before(items: &[Self::Item], start: u64, at: u64) -> Option<usize>;

    /// 2 if N and Z are followed apart from C and V, since many instructions write only N and Z.
    const FLAG_GROUPS: usize = 1;

    /// Whether instructions that set the flags are moved to those that read them ([`order`]).
    const GATHERS_FLAGS: bool = false;

    /// The registers of an instruction that only computes with general registers, and the flags, and has a
    /// lowering of its own; `None` for others, and for those that depend on where they are done.
    fn computes_alone(_item: &Self::Item) -> Option<Accesses> {
        None
    }

    /// Whether addresses have 32 bits, and wrap there.
    const NARROW: bool = false;

    /// The functions of C libraries that have code of the host.
    const ROUTINES: Table;

    /// A general register that only holds what the current instruction reads as PC.
    const PC_SLOT: Option<usize> = None;

    /// Whether a return clears the lowest bit of the place that it goes to.
    const EVEN_RETURNS: bool = false;

    /// Whether results of 32 bits have copies of their sign above them.
    const SIGNED_WORDS: bool = false;

    /// Whether the standard assignment has halves of vector registers.
    const HALVES: bool = false;

    /// Whether NaNs that scalar operations give are always the same one, whatever the operands are.
    const CANONICAL_NANS: bool = false;

    /// Whether there are vectors whose configuration an instruction sets.
    const CONFIGURES: bool = false;
    /// Whether code with floating point or vectors finds out what holds until registers change: the
    /// alignment of an address, the host's modes, or what a register holds. Then such instructions are of
    /// class [`VECTORS`].
    const HAS_FACTS: bool = false;

    /// The configuration of vectors that an instruction sets, if it says so itself.
    fn configuration(_item: &Self::Item) -> Option<u8> {
        None
    }

    /// The configuration of vectors that a state has, if there is one.
    fn configuration_of(_state: &State) -> Option<u8> {
        None
    }

    /// Whether a jump to a known place ([`End::Jump`]) reads a register.
    fn jump_reads(_item: &Self::Item) -> bool {
        false
    }

    /// Whether the interpreter must run the instruction of a [`Mark::context`] again if it faults, since that
    /// leaves more than an address.
    fn repeats(_context: u8) -> bool {
        false
    }

    /// Writes the way of an instruction of vectors that goes through some of the elements.
    fn lower_partly(_translator: &mut Translator<'_, Self>, _partly: &Partly) {
        unreachable!("only RISC-V's vectors have such a way");
    }

    /// Whether an instruction is a barrier of memory and nothing else.
    fn is_barrier(_item: &Self::Item) -> bool {
        false
    }

    /// Whether an instruction is a barrier, too: a barrier behind it has nothing to do.
    fn fences(_item: &Self::Item) -> bool {
        false
    }

    /// Whether an instruction always runs, and neither accesses memory nor branches; only where
    /// [`Isa::is_barrier`].
    fn computes(_item: &Self::Item) -> bool {
        false
    }

    /// Whether no block may end after an instruction.
    fn binds(_item: &Self::Item) -> bool {
        false
    }

    /// What [`Mark::context`] holds for an instruction.
    fn context(_item: &Self::Item) -> u8 {
        0
    }

    /// Gives the state the form that code which is not generated knows, when generated code is left.
    fn settle(_state: &mut State) {}

    /// Sets what [`Mark::context`] says, after a fault.
    fn set_context(_state: &mut State, _context: u8) {}

    /// See [`Class`].
    fn class(item: &Self::Item) -> Class;

    /// How a block ends with an instruction; `None` if it goes on.
    fn end_of(item: &Self::Item, place: u64) -> Option<End>;

    /// The lowest address that a load or store accesses; `None` for other instructions, and for literals,
    /// which are only read.
    fn accessed(item: &Self::Item, state: &State) -> Option<u64>;

    /// The addresses that an instruction of vectors accesses, and how many bytes from each, if it does.
    fn accessed_by_elements(_item: &Self::Item, _state: &State) -> Vec<(u64, u64)> {
        Vec::new()
    }

    /// The general registers that an instruction accesses.
    fn accesses(item: &Self::Item) -> Accesses;

    /// Counts the registers that an instruction uses.
    fn count_uses(item: &Self::Item, weight: u32, uses: &mut Uses);

    /// Whether the instruction may make a stack pointer unaligned, after which
    /// [`Isa::check_stack_pointer`] follows.
    fn may_unalign(item: &Self::Item) -> bool;

    /// Leaves if the stack pointer is not aligned as translated code needs it.
    fn check_stack_pointer(translator: &mut Translator<'_, Self>);

    /// The instruction for the interpreter.
    fn op(item: &Self::Item, place: u64) -> Op;

    /// Writes the code of the current instruction, which is no branch. Returns how many it covers.
    fn lower(translator: &mut Translator<'_, Self>) -> usize;

    /// The condition of the current instruction, a branch.
    fn branch_condition(translator: &mut Translator<'_, Self>) -> Condition;

    /// Writes the code of the current instruction, which ends a block in one of the ways that are not direct
    /// branches or calls.
    fn end(translator: &mut Translator<'_, Self>, end: End);

    /// See [`Cold::Invalidate`].
    fn invalidate_marked(translator: &mut Translator<'_, Self>, register: u8, slow: Label, back: Label);
}

/// An instruction of vectors that goes through some of the elements of its groups.
#[derive(Clone, Copy)]
pub struct Partly {
    op: Op,
    pc: u64,
    configuration: u8,
    wary: bool,
    boxed: u32,
    back: Label,
}

/// Code that lies after the unit's blocks.
enum Cold {
    /// Follow a link, from a branch at `from`.
    Link { target: u64, from: u64 },
    /// Where a call leads while it is not linked; its displacement is at the buffer's `site`.
    Call { target: u64, site: u32 },
    /// A branch to rax.
    Indirect,
    /// A return to the place in this register, which is not the top of the return stack.
    Return { target: Reg },
    /// Leave because the interrupt flag is set, or SP is not aligned, to go on at `pc`.
    Interrupted { pc: u64 },
    /// Leave because the interrupt flag is set, to go on at rax.
    InterruptedAtRax,
    /// The flags of a floating-point comparison, which are in rax in the form that others know, become EFLAGS
    /// as UCOMIS leaves them, and come back.
    Compared { swapped: bool, back: Label },
    /// Set FPSR.QC and come back.
    Saturated { back: Label },
    /// Hand an instruction to the interpreter and come back.
    Fallback { record: Record, back: Label },
    /// IC IVAU of the line that a register points into, from which code was read.
    Invalidate { register: u8, slow: Label, back: Label },
    /// Hand an instruction to the interpreter and leave.
    Look { record: Record },
    /// Change the host's modes of floating point to this MXCSR and come back.
    Modes { mxcsr: u32, back: Label },
    /// An instruction of vectors where vl is not what the group has.
    Partly(Partly),
    /// Load two words one by one, to rax and rcx, for the instruction at `pc`, and come back.
    TwoWords { mem: Mem, pc: u64, back: Label },
    /// Go on at a block of the unit that has the guest's registers elsewhere, or the flags in memory.
    /// `fenced` asks for a barrier.
    Reassign { to: u16, saves: bool, fenced: bool, block: Label },
    /// The entry of a block that has the guest's registers elsewhere, or needs a barrier before it.
    Entry { start: u64, end: u64, to: u16, block: Label, fenced: bool },
}

struct Stub {
    label: Label,
    flags: Flags,
    assigned: u16,
    dirty: u16,
    cold: Cold,
}

/// Lowers the instructions of a unit.
pub struct Translator<'t, I: Isa> {
    a: &'t mut Assembler,
    thunks: Thunks,
    /// Offset in the arena, or from the start of the image's code, of the unit's first byte.
    base: u32,
    ground: Ground,
    /// Number of the unit's first link.
    first_link: u32,
    unit: &'t mut Unit,
    stubs: &'t mut Vec<Stub>,
    /// The unit's blocks that are still to be placed.
    waiting: &'t mut Vec<usize>,
    /// 0, [`EXACT`]: floating point is left to the interpreter, or [`FLUSH`]: subnormal numbers are zeros.
    mode: u64,
    flags: Flags,
    /// Whether the flags after the current instruction are read.
    live: bool,
    /// Whether the flags from before the current instruction are read, by that instruction or later.
    live_before: bool,
    /// Of these, the groups ([`Isa::FLAG_GROUPS`]): N and Z, and C and V.
    live_groups: [bool; 2],
    live_groups_before: [bool; 2],
    /// The same for the whole block: a bit per instruction, from its last one, for the flags after it; and
    /// how many instructions of the block follow the current one.
    live_behind: [u128; 2],
    behind: usize,
    /// The places of the current instruction and of the next one.
    pc: u64,
    next: u64,
    /// Where the block begins from which the current instruction is read.
    block_start: u64,
    /// The instructions from the current one to the end of its block.
    items: &'t [I::Item],
    /// The branch that ends the block, if there is one.
    end_item: Option<I::Item>,
    /// The instructions of the next block, if this one only goes on there and the next is in the unit.
    following: &'t [I::Item],
    /// Whether something that is a barrier lies before this place, on all ways, with no access to the guest's
    /// memory in between: another barrier has nothing to do here.
    fenced: bool,
    /// What is known about the guest's vector registers.
    zeros: Zeros,
    /// Where the guest's registers are, and the number of this assignment in the unit.
    assignment: Assignment,
    assigned: u16,
    /// Bit per place of [`crate::layout::GENERAL`]: whether the place may differ from memory.
    dirty: u16,
    /// Whether the assignment of the current block changes within it ([`pressure`]).
    plans: bool,
    /// Whether the next block is reached only by falling into it, and goes on with the current assignment.
    inherits: bool,
    /// Instructions that often signal invalid operations.
    wary_at: &'t WarySet,
    /// Whether the current instruction is one of them: it runs with invalid operations masked and checks for
    /// them itself.
    wary: bool,
    /// The MXCSR, without flags, that the code runs with from here on, if it is known; of guests with several
    /// kinds of code.
    modes: Option<u32>,
    /// Whether the current instruction computes with the standard modes of 32-bit Arm's vectors: subnormal
    /// numbers are zeros, all NaNs the default one.
    standard: bool,
    /// Bit per general register: whether it is known to be a multiple of 4.
    aligned: u32,
    /// If the last instruction that wrote the flags of floating point is known to be a comparison by the
    /// host: whether its operands were compared in reverse order; of guests that keep these flags apart.
    compared: Option<bool>,
    /// Whether nobody reads the rest of the half of a vector register of which the current instruction writes
    /// a quarter: the half's host register then holds that quarter alone, and need not be waited for.
    alone: bool,
    /// Bit per floating-point register of RISC-V: whether it is known to hold a number of single precision
    /// with ones above it.
    boxed: u32,
    /// The configuration of vectors, if it is known here, where vstart is zero then; and vl, if it is.
    configured: Option<u8>,
    length: Option<u32>,
    /// The later rounds of a loop, if their code is being written, and those that are still to be written.
    later: Option<Later>,
    laters: Vec<Later>,
    /// The configuration that the block is translated for if none is known.
    guessed: Option<u8>,
    /// Whether marks say that a fault is the interpreter's to look at.
    repeats: bool,
    /// What the host has beyond x86-64-v3.
    features: Features,
    /// The lines that code was ever read from.
    lines: &'t CodeLines,
    keying: Keying,
    literals: Option<Literals<'t>>,
    /// Constants after the unit's code.
    constants: &'t mut Vec<(u128, Label)>,
}

/// What the translator must know of the cache that its code goes to.
#[derive(Clone, Copy)]
pub struct Origin<'c> {
    /// The entry and exit code.
    pub thunks: Thunks,
    /// Offset in the arena, or from the start of the image's code, of the next unit.
    pub base: u32,
    /// What the code may hold.
    pub ground: Ground,
    /// Number of the next link.
    pub first_link: u32,
    /// Instructions that often signal invalid operations.
    pub wary: &'c WarySet,
    /// What the host has beyond x86-64-v3.
    pub features: Features,
    /// The lines that code was ever read from.
    pub lines: &'static CodeLines,
    /// How keys are made.
    pub keying: Keying,
    /// Where what lies beside the code stays as it is for as long as the code that is made of it.
    pub literals: Option<Literals<'c>>,
}

/// Memory of the guest that is as constant as its code.
#[derive(Clone, Copy)]
pub struct Literals<'c> {
    memory: &'c Memory,
    /// The first address, and the one behind the last.
    start: u64,
    end: u64,
}

impl<'c> Literals<'c> {
    /// What lies at these addresses.
    pub fn new(memory: &'c Memory, addresses: Range<u64>) -> Literals<'c> {
        Literals { memory, start: addresses.start, end: addresses.end }
    }

    /// The `1 << size` bytes at an address, little endian, if they are constant. `size` is at most 3.
    fn value(&self, address: u64, size: u8) -> Option<u64> {
        let end = address.checked_add(1 << size)?;
        let inside = address >= self.start && end <= self.end;
        inside.then(|| self.memory.load(address, size).ok()).flatten()
    }
}

/// Where the code of a unit is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// In the arena of this process.
    Arena,
    /// In an image ([`crate::image`]), in any process. The guest's addresses are counted from `base`, which
    /// differs from process to process, and are made from a word in front of the image's code.
    Image {
        /// The address that the image's offset 0 has while it is made.
        base: u64,
    },
}

/// The ways out of generated code.
#[derive(Clone, Copy, Debug)]
enum Way {
    Exit,
    Indirect,
    Fallback,
}

/// Memory of the translator, kept from unit to unit.
#[derive(Default)]
pub struct Buffers {
    /// The code.
    pub assembler: Assembler,
    /// What the cache needs to know about the code.
    pub unit: Unit,
    stubs: Vec<Stub>,
    waiting: Vec<usize>,
    constants: Vec<(u128, Label)>,
}

/// Optional instructions of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// PCLMULQDQ.
    pub pclmul: bool,
    /// AES-NI.
    pub aes: bool,
    /// The SHA extensions.
    pub sha: bool,
    /// Whether the base of GS is the address of the thread's interrupt flag.
    pub flag_in_gs: bool,
}

impl Features {
    /// The features of this host's CPU.
    pub fn of_host() -> Features {
        let [pclmul, aes, sha] = [host::has_pclmul(), host::has_aes(), host::has_sha()];
        Features { pclmul, aes, sha, flag_in_gs: false }
    }

    /// The features as the bits of a number.
    pub fn number(self) -> u32 {
        let bits = [self.pclmul, self.aes, self.sha, self.flag_in_gs];
        bits.iter().rev().fold(0, |number, &bit| number << 1 | u32::from(bit))
    }

    /// The features that a number stands for.
    pub fn of_number(number: u32) -> Features {
        let bit = |n: u32| number >> n & 1 == 1;
        Features { pclmul: bit(0), aes: bit(1), sha: bit(2), flag_in_gs: bit(3) }
    }
}

impl<'t, I: Isa> Translator<'t, I> {
    fn new(origin: &Origin<'t>, buffers: &'t mut Buffers, start: u64, mode: u64) -> Self {
        buffers.unit.start = start;
        Translator {
            a: &mut buffers.assembler,
            thunks: origin.thunks,
            base: origin.base,
            ground: origin.ground,
            first_link: origin.first_link,
            unit: &mut buffers.unit,
            stubs: &mut buffers.stubs,
            waiting: &mut buffers.waiting,
            mode,
            flags: Flags::Memory,
            live: true,
            live_before: true,
            live_groups: [true; 2],
            live_groups_before: [true; 2],
            live_behind: [0; 2],
            behind: 0,
            pc: start,
            next: start,
            block_start: start,
            items: &[],
            end_item: None,
            following: &[],
            fenced: false,
            zeros: Zeros::default(),
            assignment: I::STANDARD.clone(),
            assigned: STANDARD,
            dirty: pressure::ALL,
            plans: false,
            inherits: false,
            wary_at: origin.wary,
            wary: false,
            modes: None,
            standard: false,
            aligned: 0,
            compared: None,
            alone: false,
            boxed: 0,
            configured: None,
            length: None,
            later: None,
            laters: Vec::new(),
            guessed: None,
            repeats: false,
            features: origin.features,
            lines: origin.lines,
            keying: origin.keying,
            literals: origin.literals,
            constants: &mut buffers.constants,
        }
    }

    /// Records that the current instruction begins here, or that the flags have moved within it, before a
    /// memory access.
    fn mark(&mut self) {
        let mark = self.mark_here();
        if self.unit.marks.last() != Some(&mark) {
            self.unit.marks.push(mark);
        }
    }

    fn mark_here(&mut self) -> Mark {
        let guest = self.pc.wrapping_sub(self.unit.start) as i32;
        let code = self.base + self.a.position();
        let assignment = self.number();
        let context = self.items.first().map_or(0, I::context) | u8::from(self.repeats);
        Mark { code, guest, flags: self.flags.form(), assignment, context }
    }

    /// Records that the current instruction begins here, if it may fault. The host would predict a branch on
    /// that badly, so the mark is written in any case.
    fn mark_if(&mut self, faults: bool) {
        let mark = self.mark_here();
        let before = self.unit.marks.len();
        self.unit.marks.push(mark);
        self.unit.marks.truncate(before + usize::from(faults));
    }

    /// Whether floating point may use the host's instructions. If so, marks the start of the current
    /// instruction: if the host signals an invalid operation, the code is left, as at a fault.
    fn host_float(&mut self) -> bool {
        let able = self.mode & EXACT == 0 || self.standard;
        if able {
            self.mark();
        }
        able
    }

    /// Makes the host compute with this MXCSR, unless it is known to do so. EFLAGS are free from here on.
    fn need_modes(&mut self, mxcsr: u32) {
        if self.modes == Some(mxcsr) {
            return;
        }
        self.clobber();
        let back = self.a.label();
        let change = self.stub(Cold::Modes { mxcsr, back });
        self.a.alu_imm(Alu::Cmp, Size::D, MODES, mxcsr as i32);
        self.a.jump_if(Cc::Ne, change);
        self.a.bind(back);
        self.modes = Some(mxcsr);
    }

    /// Orders all accesses before this place and all behind it. A locked instruction takes less time than
    /// MFENCE.
    fn full_barrier(&mut self) {
        self.a.xchg(3, SCRATCH_MEMORY, Reg::RAX);
    }

    /// Begins an access to guest memory.
    fn guest_access(&mut self) {
        if I::NARROW {
            // The address-size prefix.
            self.a.byte(0x67);
        }
    }

    /// Masks invalid operations for the current instruction.
    fn begin_wary(&mut self) {
        self.clobber();
        self.a.stmxcsr(slot(Slot::Mxcsr));
        self.a.alu_imm(Alu::Or, Size::D, slot(Slot::Mxcsr), INVALID_MASK as i32);
        self.a.ldmxcsr(slot(Slot::Mxcsr));
        self.wary = true;
    }

    /// Unmasks invalid operations again; if one has occurred, FPSR.IOC is set.
    fn end_wary(&mut self) {
        self.save_flags();
        self.flags = Flags::Memory;
        self.a.stmxcsr(slot(Slot::Mxcsr));
        self.a.mov(Size::D, Reg::RAX, slot(Slot::Mxcsr));
        self.a.alu_imm(Alu::And, Size::D, Reg::RAX, 1);
        self.a.alu_to(Alu::Or, Size::D, FPSR, Reg::RAX);
        self.a.alu_imm(Alu::And, Size::D, slot(Slot::Mxcsr), !(INVALID_MASK as i32 | 1));
        self.a.ldmxcsr(slot(Slot::Mxcsr));
        self.wary = false;
    }

    /// Whether subnormal numbers are zeros.
    fn flushes(&self) -> bool {
        self.mode & FLUSH != 0 || self.standard
    }

    /// The displacement of a word in front of an image's code, from the end of an instruction of `length`
    /// bytes that begins here.
    fn to_word(&self, word: u32, length: u32) -> i32 {
        words::offset(word).wrapping_sub_unsigned(self.base + self.a.position() + length)
    }

    /// The displacement of a thunk from the end of a jump or call that begins here.
    fn to_thunk(&self, way: Way) -> i32 {
        let thunk = match way {
            Way::Exit => self.thunks.exit,
            Way::Indirect => self.thunks.indirect,
            Way::Fallback => self.thunks.fallback,
        };
        thunk.wrapping_sub(self.base + self.a.position() + 5) as i32
    }

    /// The displacement of the word with a thunk's address, as [`Translator::to_word`].
    fn to_word_of(&self, way: Way) -> i32 {
        let word = match way {
            Way::Exit => Word::Exit,
            Way::Indirect => Word::Indirect,
            Way::Fallback => Word::Fallback,
        };
        self.to_word(word as u32, Assembler::JUMP_RIP_LENGTH)
    }

    /// Leaves the unit.
    fn jump_to(&mut self, way: Way) {
        match self.ground {
            Ground::Arena => drop(self.a.jump_rel(self.to_thunk(way))),
            Ground::Image { .. } => self.a.jump_rip(self.to_word_of(way)),
        }
    }

    /// Calls code outside of the unit.
    fn call_to(&mut self, way: Way) {
        match self.ground {
            Ground::Arena => drop(self.a.call_rel(self.to_thunk(way))),
            Ground::Image { .. } => self.a.call_rip(self.to_word_of(way)),
        }
    }

    /// Sets the reason why generated code returns, and leaves.
    fn exit(&mut self, kind: ExitKind, number: u32) {
        const EXIT: Mem = slot(Slot::Exit);
        if self.ground != Ground::Arena {
            self.a.mov_imm32(Size::D, EXIT, (number << 3 | kind as u32) as i32);
            return self.jump_to(Way::Exit);
        }
        // The displacement from the state has more than 8 bits.
        const LENGTH: u32 = 15;
        let end = self.base + self.a.position() + LENGTH;
        let displacement = self.thunks.exit.wrapping_sub(end) as i32;
        let why = (number << 3 | kind as u32) as i32;
        self.a.mov_imm32_and_jump_rel(EXIT.base, EXIT.disp, why, displacement);
    }

    /// `State::pc = pc`. Changes rax.
    fn set_pc(&mut self, pc: u64) {
        self.guest_address(Reg::RAX, pc);
        self.a.mov_to(Size::Q, PC, Reg::RAX);
    }

    /// Loads a guest address into a register, without a change of the flags. In an image it is the sum of the
    /// image's base and a constant.
    fn guest_address(&mut self, reg: Reg, address: u64) {
        let Ground::Image { base } = self.ground else { return self.a.mov_imm(reg, address) };
        let size = if I::NARROW { Size::D } else { Size::Q };
        self.a.mov_rip(size, reg, self.to_word(Word::Base as u32, Assembler::RIP_LENGTH));
        let mut rest = address.wrapping_sub(base) as i64;
        if I::NARROW {
            // Addresses wrap at 32 bits.
            rest = i64::from(rest as i32);
        }
        loop {
            let part = rest.clamp(i32::MIN.into(), i32::MAX.into());
            self.a.lea(size, reg, Mem::at(reg, part as i32));
            rest -= part;
            if rest == 0 {
                return;
            }
        }
    }

    /// A guest address as an operand; `reg` may be loaded, without a change of the flags.
    fn at_guest_address(&mut self, reg: Reg, address: u64) -> Mem {
        if let Ground::Image { base } = self.ground
            && let Ok(rest) = i32::try_from(address.wrapping_sub(base) as i64)
        {
            let size = if I::NARROW { Size::D } else { Size::Q };
            self.a.mov_rip(size, reg, self.to_word(Word::Base as u32, Assembler::RIP_LENGTH));
            return Mem::at(reg, rest);
        }
        self.guest_address(reg, address);
        Mem::at(reg, 0)
    }

    /// The number of an exit by the link that is registered next. In an image there is none.
    fn next_link(&self) -> u32 {
        self.first_link + self.unit.links.len() as u32
    }

    /// Goes on at the target of a link that is not linked. The flags are in memory.
    fn leave_by_link(&mut self, target: u64, number: u32) {
        match self.ground {
            Ground::Arena => self.exit(ExitKind::Link, number),
            Ground::Image { .. } => {
                self.guest_address(Reg::RAX, target);
                self.a.jump_rip(self.to_word(Word::ByCache as u32, Assembler::JUMP_RIP_LENGTH));
            }
        }
    }

    /// Registers a link whose displacement is at the buffer's `site`.
    fn new_link(&mut self, target: u64, site: u32, unlinked: u32) {
        let link = Link {
            target: self.keying.key(target, self.mode),
            site: self.base + site,
            unlinked: self.base + unlinked,
            next: NONE,
        };
        self.unit.links.push(link);
    }

    /// Jumps to a block that may not be translated yet. The flags are in memory.
    fn link(&mut self, target: u64) {
        let site = self.a.aligned_jump();
        let number = self.next_link();
        self.new_link(target, site, site + 4);
        self.leave_by_link(target, number);
    }

    /// A place after the blocks, reached with the flags and registers as they are now.
    fn stub(&mut self, cold: Cold) -> Label {
        let label = self.a.label();
        let assigned = self.number();
        self.stubs.push(Stub { label, flags: self.flags, assigned, dirty: self.dirty, cold });
        label
    }

    fn write_stubs(&mut self) {
        while let Some(stub) = self.stubs.pop() {
            self.a.bind(stub.label);
            self.flags = stub.flags;
            self.assume(stub.assigned);
            self.dirty = stub.dirty;
            match stub.cold {
                Cold::Link { target, from } => {
                    self.reassign(STANDARD);
                    self.save_flags();
                    if target <= from {
                        self.check_interrupt_here(target);
                    }
                    self.link(target);
                }
                Cold::Call { target, site } => {
                    let number = self.next_link();
                    self.new_link(target, site, self.a.position());
                    self.leave_by_link(target, number);
                }
                Cold::Indirect => self.indirect(),
                Cold::Return { target } => self.return_elsewhere(target),
                Cold::InterruptedAtRax => self.leave_interrupted(),
                Cold::Interrupted { pc } => {
                    self.reassign(STANDARD);
                    self.save_flags();
                    self.set_pc(pc);
                    self.exit(ExitKind::Interrupted, 0);
                }
                Cold::Compared { swapped, back } => {
                    self.compared_flags(swapped);
                    self.a.jump(back);
                }
                Cold::Saturated { back } => {
                    self.a.alu_imm(Alu::Or, Size::D, FPSR, 1 << 27);
                    self.a.jump(back);
                }
                Cold::Modes { mxcsr, back } => {
                    self.a.stmxcsr(slot(Slot::Mxcsr));
                    self.a.alu_imm(Alu::And, Size::D, slot(Slot::Mxcsr), FLAGS as i32);
                    self.a.alu_imm(Alu::Or, Size::D, slot(Slot::Mxcsr), mxcsr as i32);
                    self.a.ldmxcsr(slot(Slot::Mxcsr));
                    self.a.mov_imm32(Size::D, MODES, mxcsr as i32);
                    self.a.jump(back);
                }
                Cold::Fallback { record, back } => {
                    self.pc = record.pc;
                    self.reassign(STANDARD);
                    self.mark();
                    self.record_call(record);
                    self.reassign(stub.assigned);
                    self.a.jump(back);
                }
                Cold::Invalidate { register, slow, back } => {
                    I::invalidate_marked(self, register, slow, back);
                }
                Cold::Look { record } => {
                    self.pc = record.pc;
                    self.reassign(STANDARD);
                    self.mark();
                    self.record_call(record);
                    self.set_pc(record.next);
                    self.exit(ExitKind::Indirect, 0);
                }
                Cold::Partly(partly) => {
                    self.items = &[];
                    I::lower_partly(self, &partly);
                    self.a.jump(partly.back);
                }
                Cold::TwoWords { mem, pc, back } => {
                    (self.pc, self.items) = (pc, &[]);
                    self.mark();
                    self.guest_access();
                    self.a.mov(Size::D, Reg::RAX, mem);
                    self.guest_access();
                    self.a.mov(Size::D, Reg::RCX, mem.plus(4));
                    self.a.jump(back);
                }
                Cold::Reassign { to, saves, fenced, block } => {
                    if saves {
                        self.save_flags();
                    }
                    if fenced {
                        self.full_barrier();
                    }
                    self.reassign(to);
                    self.a.jump(block);
                }
                Cold::Entry { start, end, to, block, fenced } => {
                    let code = self.base + self.a.position();
                    self.unit.blocks.push((self.keying.key(start, self.mode), end, code));
                    if fenced {
                        self.full_barrier();
                    }
                    self.reassign(to);
                    self.a.jump(block);
                }
            }
        }
    }

    /// Calls the interpreter for one instruction. The flags are in memory or dead; the registers are in the
    /// standard assignment.
    fn record_call(&mut self, record: Record) {
        let record = Box::new(record);
        match self.ground {
            Ground::Arena => self.a.mov_imm(Reg::RAX, core::ptr::from_ref::<Record>(&record) as u64),
            Ground::Image { .. } => {
                let word = words::RECORDS + self.unit.first_record + self.unit.records.len() as u32;
                self.a.lea_rip(Reg::RAX, self.to_word(word, Assembler::RIP_LENGTH));
            }
        }
        self.unit.records.push(record);
        self.call_to(Way::Fallback);
    }

    /// The current instruction, for the interpreter.
    fn record(&self) -> Record {
        let block = self.block_start;
        Record { op: I::op(&self.items[0], self.pc), pc: self.pc, next: self.next, block }
    }

    /// Hands the current instruction to the interpreter, which may change any register and the flags.
    fn fallback(&mut self) {
        self.save_flags();
        self.flags = Flags::Memory;
        self.zeros = Zeros::default();
        self.aligned = 0;
        let assigned = self.number();
        self.reassign(STANDARD);
        // The call may find the return stack full.
        self.mark();
        self.record_call(self.record());
        self.reassign(assigned);
    }

    /// A place after the blocks that hands the current instruction to the interpreter and returns to `back`.
    /// The flags are in memory or dead from here on.
    fn slow_path(&mut self, back: Label) -> Label {
        let record = self.record();
        self.stub(Cold::Fallback { record, back })
    }

    /// A constant in memory.
    fn constant(&mut self, value: u128) -> Rm {
        if let Some(&(_, label)) = self.constants.iter().find(|(known, _)| *known == value) {
            return label.into();
        }
        let label = self.a.label();
        self.constants.push((value, label));
        label.into()
    }

    fn write_constants(&mut self) {
        if !self.constants.is_empty() {
            self.a.align(16, 0);
        }
        for (value, label) in self.constants.drain(..) {
            self.a.bind(label);
            self.a.bytes(&value.to_le_bytes());
        }
    }
}
