//! The dispatcher: interprets cold code, translates hot code, runs translated code.

mod check;

pub use check::{Copies, Outcome};

use crate::cache::Cache;
use crate::flag_form::{nzcv_of_slot, slot_of_nzcv};
use crate::host::host_is_able;
use crate::image::format::{Image, Profile};
use crate::jump_cache::JumpCache;
use crate::layout::{BIAS, ExitKind, FaultAccess, MODES_WORD, Slot};
use crate::lock::{Held, Lock, Spin};
use crate::mxcsr;
use crate::presence::{OUTSIDE, POKE, Presence};
use crate::translate::{self, Blocks, Isa};
use crate::unit::{EXACT, FLUSH, Keying, Record};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::arch::asm;
use core::mem::transmute;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crossdock_emu_guest::a64::A64;
use crossdock_emu_guest::guest::Words;
use crossdock_emu_guest::memory::{Access, Fault};
use crossdock_emu_guest::{Exit, Flow, Host, Interpreter, Invalidations, State};

/// Runs of a block in the interpreter before it is translated.
const HOT: u32 = 8;
/// Runs of a block before it becomes part of a unit that begins elsewhere.
const WARM: u32 = 1;

/// FPCR with FZ alone.
const FPCR_FZ: u32 = 1 << 24;

/// The part of a key that says how code computes, by FPCR.
fn mode_of(fpcr: u32) -> u64 {
    match fpcr {
        0 => 0,
        FPCR_FZ => FLUSH,
        _ => EXACT,
    }
}

/// The MXCSR that generated code runs with.
fn mxcsr_of(fpcr: u32) -> u32 {
    match mode_of(fpcr) {
        0 => mxcsr::SIGNALS,
        FLUSH => mxcsr::FLUSHES,
        _ => mxcsr::MASKED,
    }
}

/// Where generated code lies and where its faults continue, for the signal handler.
static ARENA_START: AtomicU64 = AtomicU64::new(0);
static ARENA_END: AtomicU64 = AtomicU64::new(0);
static FAULT_THUNK: AtomicU64 = AtomicU64::new(0);
/// The process's code, for the signal handler.
static JIT: AtomicPtr<Jit> = AtomicPtr::new(core::ptr::null_mut());

/// What the crate needs from the operating system.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Lets other threads run.
    pub wait: fn(),
    /// Called before the arena below `end` is written; returns the address below which no further call is
    /// needed.
    pub ready: fn(end: u64) -> u64,
    /// Sets the base of GS of the calling thread, which nobody else uses; false if the host does not let it.
    /// The base is not kept where a thread starts another.
    pub point_gs: fn(address: u64) -> bool,
    /// Reports to profilers that `length` bytes of code at the host address `code` were made from the guest
    /// code at `guest`.
    pub placed: Option<fn(guest: u64, code: u64, length: u64)>,
}

/// The translated code of a process. A process has only one.
pub struct Jit {
    cache: Lock<Cache>,
    log: &'static Invalidations,
    /// [`Cache::epoch`], readable without the lock.
    epoch: AtomicU64,
    /// How many entries of the log the cache has applied.
    seen: AtomicU64,
    /// Host address of offset 0 in [`Cache`].
    arena: u64,
    /// What the bottom of a return stack returns to.
    underflow: u64,
    /// See [`System`].
    placed: Option<fn(guest: u64, code: u64, length: u64)>,
    /// See [`System`]; `None` if the host refuses.
    point_gs: Option<fn(address: u64) -> bool>,
    /// The number of breakpoints; written under the lock.
    breakpoints: AtomicUsize,
    /// The number of engines. A thread that reads 1 here is alone until it leaves [`Engine::run`].
    threads: AtomicUsize,
    enter: unsafe extern "C" fn(state: u64, code: u64),
    /// Whether there are images.
    images: AtomicBool,
}

impl Jit {
    /// Takes an arena for the code of the process's threads; `None` if the host's CPU lacks what the code
    /// needs ([`host_is_able`]).
    ///
    /// # Safety
    ///
    /// The memory is readable, writable and executable, used by nobody else, and stays so. There is one `Jit`
    /// in a process.
    pub unsafe fn new(arena: *mut u8, size: u32, log: &'static Invalidations, system: System) -> Option<Jit> {
        // SAFETY: the caller's promise.
        unsafe { Jit::of::<A64>(arena, size, log, system) }
    }

    /// As [`Jit::new`], for another guest than A64.
    ///
    /// # Safety
    ///
    /// As [`Jit::new`]; all engines of the process are of this guest.
    pub unsafe fn of<I: Isa>(
        arena: *mut u8,
        size: u32,
        log: &'static Invalidations,
        system: System,
    ) -> Option<Jit> {
        if !host_is_able() {
            return None;
        }
        // SAFETY: the caller's promise.
        let mut cache = unsafe {
            Cache::new(
                arena,
                size,
                [run_record::<I> as *const () as u64, run_record_of_image::<I> as *const () as u64],
                log,
                system.ready,
                Keying { shift: I::MODE_SHIFT },
                I::STANDARD,
            )
        };
        // Code that reads the interrupt flag there is shorter by a load.
        let point_gs = Some(system.point_gs).filter(|point_gs| point_gs(0));
        cache.features.flag_in_gs = point_gs.is_some();
        let enter = cache.address(cache.thunks.enter);
        FAULT_THUNK.store(cache.address(cache.thunks.fault), Ordering::Relaxed);
        ARENA_START.store(arena as u64, Ordering::Relaxed);
        ARENA_END.store(arena as u64 + u64::from(size), Ordering::Release);
        // SAFETY: the thunk is code of this signature.
        let enter = unsafe { transmute::<u64, unsafe extern "C" fn(u64, u64)>(enter) };
        let epoch = AtomicU64::new(cache.epoch);
        let seen = AtomicU64::new(cache.seen());
        let (arena, underflow) = (cache.address(0), cache.address(cache.thunks.underflow));
        let cache = Lock::new(cache, Spin::new(system.wait));
        let (threads, breakpoints) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let placed = system.placed;
        let images = AtomicBool::new(false);
        Some(Jit {
            cache,
            log,
            epoch,
            seen,
            arena,
            underflow,
            placed,
            point_gs,
            breakpoints,
            threads,
            enter,
            images,
        })
    }

    /// What the code of this process uses of the host's CPU, as a number.
    pub fn features(&self) -> u32 {
        self.cache.lock().features.number()
    }

    /// Where an image of `length` bytes is to be mapped, for [`Jit::attach`]; `None` if there is no room.
    pub fn image_room(&self, length: u64) -> Option<u64> {
        self.cache.lock().image_room(length)
    }

    /// Runs the code of an image for a file whose offset 0 the guest has mapped at `base`.
    ///
    /// # Safety
    ///
    /// The image's bytes are at `at`, where [`Jit::image_room`] said, readable, writable by this process
    /// alone, and executable. They stay. They are what the compiler has made of the file that the guest has
    /// mapped.
    pub unsafe fn attach(&self, at: u64, image: Image<'static>, base: u64) {
        let mut cache = self.cache.lock();
        // What has changed before is no change of what the image is for.
        let head = cache.catch_up(self.log);
        self.announce(&cache);
        self.seen.store(head, Ordering::Release);
        // SAFETY: the caller's promise.
        unsafe { cache.attach(at, image, base) };
        self.images.store(true, Ordering::Release);
    }

    /// Keeps the code from changing, during a fork.
    pub fn hold(&self) -> Held<'_, Cache> {
        self.cache.lock()
    }

    /// Tells the threads that code has been dropped.
    fn announce(&self, cache: &Cache) {
        self.epoch.store(cache.epoch, Ordering::SeqCst);
        for presence in &cache.presences {
            presence.poke();
        }
    }

    /// Makes room in a full arena: drops all code, and gives its memory back once no thread can be in it.
    /// Returns whether there is room; if not, the threads have been told to leave the code.
    fn make_room(&self, cache: &mut Cache) -> bool {
        if !cache.emptying {
            cache.drop_all();
            cache.emptying = true;
        }
        self.announce(cache);
        // Epochs only grow, and `OUTSIDE` is above them all.
        let empty =
            cache.presences.iter().all(|presence| presence.running.load(Ordering::SeqCst) >= cache.epoch);
        if empty {
            cache.reset();
        }
        empty
    }
}

/// Where a handler of SIGSEGV, SIGBUS or SIGFPE continues generated code that faulted, given the host's
/// registers at the fault. The handler stores the result as the new instruction pointer and returns. `None`
/// means that the fault is not in generated code.
///
/// # Safety
///
/// The registers are those of the interrupted thread.
pub unsafe fn resume_after_fault(
    pc: u64,
    rbp: u64,
    eflags: u64,
    page_fault: Option<(u64, bool)>,
) -> Option<(u64, bool)> {
    if pc < ARENA_START.load(Ordering::Relaxed) || pc >= ARENA_END.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: rbp is the state's wherever generated code runs.
    let state = unsafe { &mut *((rbp - BIAS as u64) as *mut State) };
    state.generated[Slot::FaultPc as usize] = pc;
    state.generated[Slot::FaultFlags as usize] = eflags;
    // SAFETY: set by `Engine::enter`, whose frame is still there.
    let memory = unsafe { (*(state.generated[Slot::Host as usize] as *const Run)).host.memory };
    // SAFETY: the instruction at pc has just been run.
    let by_routine = unsafe { *(pc as *const u8) } == translate::GUEST_ACCESS;
    let of_guest = page_fault.filter(|&(address, _)| !by_routine && memory.contains(address));
    let access = match of_guest {
        None => FaultAccess::Unknown,
        Some((_, false)) => FaultAccess::Read,
        Some((_, true)) => FaultAccess::Write,
    };
    let address = of_guest.map_or(0, |(address, _)| address);
    state.generated[Slot::FaultAccess as usize] = address << 2 | access as u64;
    Some((FAULT_THUNK.load(Ordering::Relaxed), of_guest.is_some()))
}

/// Makes a thread that a signal has interrupted, and whose interrupt flag is set, leave generated code at a
/// nearby instruction and not only at the next loop's head. For a signal handler that returns to where it
/// came from.
///
/// # Safety
///
/// The registers are those of the interrupted thread, which does not run meanwhile.
pub unsafe fn interrupt_soon(pc: u64, rbp: u64) {
    if pc < ARENA_START.load(Ordering::Relaxed) || pc >= ARENA_END.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: there is generated code, so there is an engine, and what it refers to stays.
    let Some(jit) = (unsafe { JIT.load(Ordering::Acquire).as_ref() }) else { return };
    // The thread holds no lock while it is in generated code.
    if let Some(mut cache) = jit.cache.lock_soon() {
        let count = cache.set_breakpoint(pc, rbp);
        jit.breakpoints.store(count, Ordering::Relaxed);
    }
}

fn read_mxcsr() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores 4 bytes to a local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
    value
}

/// Clears the host's floating-point flags, for Rust code.
fn reset_mxcsr() {
    set_mxcsr(mxcsr::MASKED);
}

fn set_mxcsr(value: u32) {
    if read_mxcsr() != value {
        load_mxcsr(value);
    }
}

fn load_mxcsr(value: u32) {
    // SAFETY: the value is the one that Rust code runs with, or generated code is entered before any Rust
    // code runs.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, readonly)) };
}

/// Adds the host's floating-point flags to the guest's: DZC, OFC, UFC, IXC are ZE, OE, UE, PE. IE means that
/// an instruction is left to the interpreter, which determines whether it sets IOC.
fn merge_mxcsr(state: &mut State, mxcsr: u32) {
    state.fpsr |= mxcsr >> 1 & 0x1e;
}

/// The value that generated code has in rbp for a state.
fn owner_of(state: &State) -> u64 {
    core::ptr::from_ref(state) as u64 + BIAS as u64
}

/// What [`run_record`] needs of a run.
struct Run {
    host: Host,
    /// Why the last instruction left generated code.
    left: Exit,
}

/// Runs an instruction for generated code; returns nonzero if it leaves generated code.
unsafe extern "C" fn run_record<I: Isa>(state: *mut State, record: *const Record) -> u64 {
    // SAFETY: the fallback thunk passes the thread's state and a record of a unit, which are valid while code
    // runs.
    let (state, record) = unsafe { (&mut *state, &*record) };
    // SAFETY: set by `Engine::enter`, whose frame is still there.
    let run = unsafe { &mut *(state.generated[Slot::Host as usize] as *mut Run) };
    merge_mxcsr(state, read_mxcsr());
    reset_mxcsr();
    state.nzcv = nzcv_of_slot(state.generated[Slot::Flags as usize]);
    state.pc = record.pc;
    I::settle(state);
    let before = state.fpcr;
    let result = I::execute(state, &run.host, &record.op);
    state.generated[Slot::Flags as usize] = slot_of_nzcv(state.nzcv);
    if state.fpcr != before {
        state.generated[MODES_WORD] = mxcsr_of(state.fpcr).into();
    }
    set_mxcsr(state.generated[MODES_WORD] as u32);
    match result {
        Ok(Flow::Next) => {
            let interrupt = state.generated[Slot::Interrupt as usize] as *const AtomicU32;
            // SAFETY: the flag of the run.
            if unsafe { &*interrupt }.load(Ordering::Relaxed) == 0 {
                return 0;
            }
            state.pc = record.next;
            I::after(state, &record.op);
            run.left = Exit::Budget;
            1
        }
        // Branches are translated; ISB is not, and goes on where `pc` says.
        Ok(Flow::Jump) => {
            run.left = Exit::Budget;
            1
        }
        Err(exit) => {
            run.left = exit;
            1
        }
    }
}

/// As [`run_record`], for a record of an image: `word` is the address of the word that holds the record's
/// address once it has been needed.
unsafe extern "C" fn run_record_of_image<I: Isa>(state: *mut State, word: *const AtomicPtr<Record>) -> u64 {
    // SAFETY: the thunk passes the address of a word of an image.
    let known = unsafe { &*word };
    let mut record = known.load(Ordering::Acquire);
    if record.is_null() {
        // SAFETY: the thread's state; set by `Engine::enter`, whose frame is still there.
        let run = unsafe { &mut *((*state).generated[Slot::Host as usize] as *mut Run) };
        // SAFETY: there is generated code, so there is an engine, and what it refers to stays.
        let jit = unsafe { JIT.load(Ordering::Acquire).as_ref() };
        let places = jit.and_then(|jit| jit.cache.lock().record_of_image(word as u64));
        let Some(made) = places.and_then(|places| replay::<I>(&run.host, places)) else {
            // The guest's code is gone: the dispatcher finds out. An image's word always has places.
            // SAFETY: the thread's state.
            let state = unsafe { &mut *state };
            state.pc = places.map_or(state.pc, |[_, place, _]| place);
            state.nzcv = nzcv_of_slot(state.generated[Slot::Flags as usize]);
            run.left = Exit::Budget;
            return 1;
        };
        record = Box::into_raw(Box::new(made));
        known.store(record, Ordering::Release);
    }
    // SAFETY: as for `run_record`; the record stays.
    unsafe { run_record::<I>(state, record) }
}

/// Decodes the instruction at `place` again, which was read as one of the block that begins at `block`;
/// `None` if it cannot be read.
fn replay<I: Isa>(host: &Host, [block, place, next]: [u64; 3]) -> Option<Record> {
    let mut words = Words::new(&host.memory, None);
    let mut context = I::Context::default();
    let mut at = block;
    loop {
        let item = I::read(&mut words, at, &mut context)?;
        if at == place {
            return Some(Record { op: I::op(&item, place), pc: place, next, block });
        }
        let after = at.wrapping_add(I::item_length(&item));
        if after > place {
            return None;
        }
        at = after;
    }
}

/// Memory for a thread's return stack, which the calls of generated code grow downwards. The memory below
/// `low` must not be accessible.
#[derive(Clone, Copy, Debug)]
pub struct ReturnStack {
    /// Lowest address.
    pub low: u64,
    /// End; a multiple of 16.
    pub high: u64,
}

impl<I: Isa> Drop for Runner<I> {
    fn drop(&mut self) {
        if let Some(jit) = self.jit {
            let mut cache = jit.cache.lock();
            cache.presences.retain(|presence| !core::ptr::eq(*presence, self.presence));
            jit.threads.store(cache.presences.len(), Ordering::Relaxed);
            // SAFETY: made by `new`; nobody else refers to it now.
            drop(unsafe { Box::from_raw(core::ptr::from_ref(self.presence).cast_mut()) });
        }
    }
}

/// Runs the instructions of one guest thread.
pub struct Runner<I: Isa> {
    interpreter: Interpreter<'static, I>,
    jit: Option<&'static Jit>,
    jump_cache: JumpCache,
    stack: ReturnStack,
    /// Runs of a block in the interpreter before it is translated.
    hot: u32,
    /// Where the thread is; freed with the engine.
    presence: &'static Presence,
    /// The epoch of the code that may be run.
    epoch: u64,
    /// The epoch and mode of the jump cache. Those of the return stack are in the thread's registers.
    tables: u64,
    /// Where the thread's GS points ([`System::point_gs`]), or 0.
    gs: u64,
    /// The guest code of the unit that is translated, kept for its memory.
    blocks: Blocks<I>,
    /// How often [`Runner::check`] has compared each entry of an image, by its place.
    compared: BTreeMap<u64, u32>,
}

/// Runs the A64 instructions of one guest thread.
pub type Engine = Runner<A64>;

impl<I: Isa> Runner<I> {
    /// An engine for a thread of the process that `log` belongs to; without `jit` it only interprets.
    ///
    /// # Safety
    ///
    /// The return stack is writable and used by nobody else. If there is one other engine, it is not running
    /// meanwhile: a thread creates the engines of the threads that it starts.
    pub unsafe fn new(log: &'static Invalidations, jit: Option<&'static Jit>, stack: ReturnStack) -> Self {
        let presence: &Presence = Box::leak(Box::new(Presence {
            running: AtomicU64::new(OUTSIDE),
            interrupt: AtomicPtr::new(core::ptr::null_mut()),
        }));
        if let Some(jit) = jit {
            JIT.store(core::ptr::from_ref(jit).cast_mut(), Ordering::Release);
            let mut cache = jit.cache.lock();
            cache.presences.push(presence);
            jit.threads.store(cache.presences.len(), Ordering::Relaxed);
        }
        Runner {
            interpreter: Interpreter::new(log),
            jit,
            jump_cache: if jit.is_some() { JumpCache::new() } else { JumpCache::none() },
            stack,
            hot: HOT,
            presence,
            epoch: 0,
            tables: 0,
            gs: 0,
            blocks: Blocks::default(),
            compared: BTreeMap::new(),
        }
    }

    /// Translates blocks once they have been interpreted `runs` times; with 0, nothing is interpreted that
    /// can be translated.
    pub fn translate_after(&mut self, runs: u32) {
        self.hot = runs;
    }

    /// Translates all floating-point instructions like those that often signal invalid operations, in all
    /// engines of the process, for tests.
    pub fn be_wary(&mut self, everywhere: bool) {
        if let Some(jit) = self.jit {
            let mut cache = jit.cache.lock();
            cache.wary.everywhere = everywhere;
            cache.drop_all();
            jit.announce(&cache);
        }
    }

    /// Tells the engine of a forked child's thread that there are no other threads.
    pub fn is_alone(&self) {
        let Some(jit) = self.jit else { return };
        let mut cache = jit.cache.lock();
        cache.presences.retain(|presence| core::ptr::eq(*presence, self.presence));
        jit.threads.store(1, Ordering::Relaxed);
        jit.breakpoints.store(cache.remove_breakpoints(None), Ordering::Relaxed);
    }

    /// Runs until the caller has something to do; see [`Interpreter::run`]. Engines use bit [`POKE`] of
    /// `interrupt` among themselves; the engine clears it.
    pub fn run(&mut self, state: &mut State, host: &Host, interrupt: &AtomicU32) -> Exit {
        let flag = core::ptr::from_ref(interrupt).cast_mut();
        self.presence.interrupt.store(flag, Ordering::SeqCst);
        let exit = self.run_until_exit(state, host, interrupt);
        if let Some(jit) = self.jit
            && jit.breakpoints.load(Ordering::Relaxed) != 0
        {
            let mut cache = jit.cache.lock();
            let left = cache.remove_breakpoints(Some(owner_of(state)));
            jit.breakpoints.store(left, Ordering::Relaxed);
        }
        self.presence.interrupt.store(core::ptr::null_mut(), Ordering::Release);
        exit
    }

    fn run_until_exit(&mut self, state: &mut State, host: &Host, interrupt: &AtomicU32) -> Exit {
        let Some(jit) = self.jit else { return self.interpreter.run(state, host, interrupt, u64::MAX) };
        let mut run = Run { host: *host, left: Exit::Budget };
        self.use_slots(state, interrupt);
        loop {
            let flag = interrupt.load(Ordering::Relaxed);
            if flag & !POKE != 0 {
                return Exit::Interrupted;
            }
            if flag != 0 {
                interrupt.fetch_and(!POKE, Ordering::SeqCst);
            }
            if let Err(exit) = I::check_place(state) {
                return exit;
            }
            if !I::can_run(state) {
                match self.interpret_block(state, host, interrupt) {
                    Exit::Budget | Exit::Interrupted => continue,
                    exit => return exit,
                }
            }
            let mode = mode_of(state.fpcr);
            self.catch_up(jit, state, mode);
            if self.jump_cache.is_small() {
                self.jump_cache.grow();
                self.use_jump_cache(state);
            }
            let code = match self.known(state.pc) {
                Some(code) => code,
                None => match self.run_cold(jit, state, host, interrupt, mode) {
                    Ok(Some(code)) => code,
                    Ok(None) => continue,
                    Err(exit) => return exit,
                },
            };
            if let Some(exit) = self.enter(jit, state, &mut run, code) {
                return exit;
            }
        }
    }

    /// Interprets until there is generated code. Returns where that code is, `None` if the caller must check
    /// again, or the exit that the caller is to return.
    #[inline(always)]
    fn run_cold(
        &mut self,
        jit: &Jit,
        state: &mut State,
        host: &Host,
        interrupt: &AtomicU32,
        mode: u64,
    ) -> Result<Option<u64>, Exit> {
        // Other threads may have translated code that is new to this one.
        let announce = jit.threads.load(Ordering::Relaxed) > 1;
        let has_images = mode == 0 && jit.images.load(Ordering::Acquire);
        let elsewhere = |pc| has_images && jit.cache.lock().entry_of_image(pc).is_some();
        match self.interpreter.run_cold(state, host, interrupt, self.hot, announce, elsewhere) {
            // Perhaps only a poke.
            Some(Exit::Interrupted) => return Ok(None),
            Some(exit) => return Err(exit),
            None => {}
        }
        let Some(code) = self.interpreter.code() else {
            self.prepare(jit, state, mode, host);
            return Ok(None);
        };
        // This code is as valid as the rest of the jump cache.
        let code = jit.arena + u64::from(code);
        self.remember(state.pc, code);
        let able = I::can_run(state) && self.is_caught_up(jit, state, mode);
        Ok(Some(code).filter(|_| able))
    }

    /// Points generated code to this thread's data.
    fn use_slots(&mut self, state: &mut State, interrupt: &AtomicU32) {
        if state.generated[Slot::JumpCache as usize] != self.jump_cache.address() {
            // These are another thread's registers, copied.
            state.generated[Slot::Epoch as usize] = 0;
        }
        // The jump cache may have grown while a child of vfork had a copy of the registers.
        self.use_jump_cache(state);
        let flag = core::ptr::from_ref(interrupt) as u64;
        state.generated[Slot::Interrupt as usize] = flag;
        // A child of vfork runs with its parent's engine, but with a flag of its own.
        if self.gs != flag
            && let Some(point_gs) = self.jit.and_then(|jit| jit.point_gs)
        {
            let able = point_gs(flag);
            assert!(able, "the host has set the base of GS before");
            self.gs = flag;
        }
    }

    fn use_jump_cache(&self, state: &mut State) {
        state.generated[Slot::JumpCache as usize] = self.jump_cache.address();
        let (sets, mask) = self.jump_cache.second();
        state.generated[Slot::JumpSets as usize] = sets;
        state.generated[Slot::JumpSetsMask as usize] = mask;
    }

    /// How many blocks this thread has decoded.
    pub fn decoded(&self) -> usize {
        self.interpreter.decoded_blocks()
    }

    /// The blocks of a range of addresses that this thread has decoded, and those that the process has
    /// translated, by their offsets from `base`.
    pub fn profile(&self, range: &Range<u64>, base: u64) -> Profile {
        let mut profile = Profile::default();
        if let Some(jit) = self.jit {
            profile = jit.cache.lock().profile(range, base);
        }
        let decoded = self.interpreter.places().filter(|place| range.contains(place));
        profile.cold.extend(decoded.map(|place| place.wrapping_sub(base) as u32));
        profile
    }

    /// Interprets until the caller has something to do, or a block has run; see [`Interpreter::run`].
    pub fn interpret_block(&mut self, state: &mut State, host: &Host, interrupt: &AtomicU32) -> Exit {
        self.interpreter.run(state, host, interrupt, 1)
    }

    /// Whether nothing has changed since [`Engine::catch_up`].
    fn is_caught_up(&self, jit: &Jit, state: &State, mode: u64) -> bool {
        jit.log.head() == jit.seen.load(Ordering::Acquire)
            && jit.epoch.load(Ordering::Acquire) == self.epoch
            && mode_of(state.fpcr) == mode
    }

    /// Applies the log of changes, and removes what leads to code that must not run any more.
    fn catch_up(&mut self, jit: &Jit, state: &mut State, mode: u64) {
        if jit.log.head() != jit.seen.load(Ordering::Acquire) {
            let mut cache = jit.cache.lock();
            let head = cache.catch_up(jit.log);
            if cache.epoch != jit.epoch.load(Ordering::Relaxed) {
                jit.announce(&cache);
            }
            jit.seen.store(head, Ordering::Release);
        }
        self.epoch = jit.epoch.load(Ordering::Acquire);
        let epoch = self.epoch << 2 | mode;
        let (tables, stack) = (self.tables, state.generated[Slot::Epoch as usize]);
        if tables != epoch {
            self.tables = epoch;
            let cache = jit.cache.lock();
            match cache.dropped_since(tables >> 2).filter(|_| tables & 3 == mode) {
                Some(dropped) => dropped.for_each(|pc| self.forget(pc)),
                None => self.forget_all(),
            }
        }
        // A child of vfork, whose registers are a copy, may have run this in between.
        if tables != epoch || stack != epoch {
            state.generated[Slot::Epoch as usize] = epoch;
            self.reset_stack(jit, state);
        }
    }

    /// Empties the jump cache and the interpreter's knowledge of translated code.
    fn forget_all(&mut self) {
        self.interpreter.forget_codes();
        self.jump_cache.clear();
    }

    /// Removes a block from the jump cache and from the interpreter's knowledge of translated code.
    fn forget(&mut self, pc: u64) {
        self.interpreter.forget_code(pc);
        self.jump_cache.remove(pc);
    }

    /// Empties the return stack. Its bottom is a pair that no return matches, because its guest address is
    /// odd.
    fn reset_stack(&mut self, jit: &Jit, state: &mut State) {
        let bottom = self.stack.high - 16;
        // SAFETY: the return stack is this engine's.
        unsafe { *(bottom as *mut [u64; 2]) = [jit.underflow, 1] };
        state.generated[Slot::ReturnStack as usize] = bottom;
    }

    /// Host address of the code for `pc`, if it is in the jump cache.
    fn known(&self, pc: u64) -> Option<u64> {
        self.jump_cache.find(pc)
    }

    /// Puts code into the jump cache.
    fn remember(&mut self, pc: u64, host: u64) {
        self.jump_cache.insert(pc, host);
    }

    /// Puts the code for the state's place into the jump cache, and first translates it if necessary and if
    /// the block is hot.
    fn prepare(&mut self, jit: &Jit, state: &State, mode: u64, host: &Host) {
        let pc = state.pc;
        let mut cache = jit.cache.lock();
        if let Some(code) = cache.entry(cache.keying.key(pc, mode)) {
            self.interpreter.set_code(pc, Some(code));
            self.remember(pc, cache.address(code));
            return;
        }
        if self.interpreter.heat(pc) < self.hot {
            return;
        }
        let before = cache.next_offset();
        self.translate(jit, &mut cache, state, mode, host);
        if let Some(placed) = jit.placed
            && cache.size().0 > before
        {
            placed(pc, cache.address(before), u64::from(cache.size().0 - before));
        }
        match cache.entry(cache.keying.key(pc, mode)) {
            Some(code) => self.remember(pc, cache.address(code)),
            // Otherwise the interpreter would ask for the block again at once.
            None => self.interpreter.cool(pc),
        }
    }

    /// Translates the unit at the state's place, if there is room.
    fn translate(&mut self, jit: &Jit, cache: &mut Cache, state: &State, mode: u64, host: &Host) {
        let pc = state.pc;
        if cache.is_full() && !jit.make_room(cache) {
            return;
        }
        // Decoded code is as new as the cache, whose lock nobody else has.
        self.interpreter.catch_up();
        let mut buffers = core::mem::take(&mut cache.buffers);
        let mut blocks = core::mem::take(&mut self.blocks);
        blocks.configuration = I::configuration_of(state);
        let (interpreter, alone) = (&self.interpreter, jit.threads.load(Ordering::Relaxed) == 1);
        let done = translate::translate(
            &cache.origin(),
            &mut buffers,
            &mut blocks,
            (host, Some(interpreter)),
            pc,
            mode,
            |other| {
                let heat = interpreter.heat(other);
                // The lookup is needed only if this thread knows the block as translated, or another thread
                // may have run it.
                heat >= WARM
                    && (heat < Interpreter::<I>::TRANSLATED && alone
                        || cache.entry(cache.keying.key(other, mode)).is_none())
            },
        );
        self.blocks = blocks;
        if !done {
            cache.buffers = buffers;
            return;
        }
        for &(key, _, code) in &buffers.unit.blocks {
            self.interpreter.set_code(cache.keying.place(key), Some(code));
        }
        for &(start, _) in &buffers.unit.inner {
            self.interpreter.set_code(start, None);
        }
        cache.add(buffers);
    }

    /// Runs generated code until it exits. Returns the exit, if the caller has to handle it.
    fn enter(&mut self, jit: &Jit, state: &mut State, run: &mut Run, code: u64) -> Option<Exit> {
        // Without other threads, nobody reads `running`, and this thread can start others only outside of
        // generated code.
        let alone = jit.threads.load(Ordering::Relaxed) == 1;
        let order = if alone { Ordering::Relaxed } else { Ordering::SeqCst };
        self.presence.running.store(self.epoch, order);
        let exit = if jit.epoch.load(Ordering::SeqCst) == self.epoch {
            self.enter_present(jit, state, run, code)
        } else {
            None
        };
        self.presence.running.store(OUTSIDE, Ordering::Release);
        exit
    }

    /// Like [`Engine::enter`], once the others know that this thread is in generated code: its memory and
    /// links stay.
    fn enter_present(&mut self, jit: &Jit, state: &mut State, run: &mut Run, code: u64) -> Option<Exit> {
        let top = state.generated[Slot::ReturnStack as usize];
        // SAFETY: the top pair is inside the return stack.
        if unsafe { *((top + 8) as *const u64) } == state.pc {
            state.generated[Slot::ReturnStack as usize] = top + 16;
        }
        state.generated[Slot::Flags as usize] = slot_of_nzcv(state.nzcv);
        state.generated[Slot::Host as usize] = core::ptr::from_mut(run) as u64;
        let modes = mxcsr_of(state.fpcr);
        state.generated[MODES_WORD] = modes.into();
        load_mxcsr(modes);
        // SAFETY: the code was translated for this state; the slots that it uses are set.
        unsafe { (jit.enter)((state as *mut State).cast::<u8>().add(BIAS as usize) as u64, code) };
        I::settle(state);
        state.nzcv = nzcv_of_slot(state.generated[Slot::Flags as usize]);
        let [start, end] = [Slot::Invalid, Slot::InvalidEnd].map(|slot| state.generated[slot as usize]);
        if start != end {
            state.generated[Slot::Invalid as usize] = end;
            jit.log.invalidate(start..end);
        }
        let mxcsr = state.generated[Slot::Mxcsr as usize] as u32;
        merge_mxcsr(state, mxcsr);
        if mxcsr != mxcsr::MASKED {
            load_mxcsr(mxcsr::MASKED);
        }
        let exit = state.generated[Slot::Exit as usize] as u32;
        let number = exit >> 3;
        match exit & 7 {
            kind if kind == ExitKind::Link as u32 => {
                let cache = jit.cache.lock();
                state.pc = cache.keying.place(cache.link_target(number));
                drop(cache);
                self.interpreter.forget_place();
                None
            }
            kind if kind == ExitKind::Indirect as u32 => None,
            kind if kind == ExitKind::Leave as u32 => Some(run.left).filter(|&exit| exit != Exit::Budget),
            kind if kind == ExitKind::Fault as u32 => self.fault(jit, state, &run.host),
            // The caller checks the flag.
            kind if kind == ExitKind::Interrupted as u32 => None,
            _ => Some(Exit::Syscall(number as u16)),
        }
    }

    /// Handles a fault of generated code: the interpreter runs the instruction again from the registers
    /// before it, and finds what is wrong. It may find nothing: an address had a tag, or the return stack was
    /// full.
    fn fault(&mut self, jit: &Jit, state: &mut State, host: &Host) -> Option<Exit> {
        let pc = state.generated[Slot::FaultPc as usize];
        let mut cache = jit.cache.lock();
        let found = cache.guest_of(pc).expect("generated code has marks");
        let guest = found.place;
        found.assignment.take_saved(state);
        // Only a signalled invalid operation sets IE.
        let invalid = state.generated[Slot::Mxcsr as usize] & 1 == 1;
        let breakpoint = cache.is_breakpoint(pc);
        // SAFETY: reads a counter.
        let now = unsafe { core::arch::x86_64::_rdtsc() };
        if invalid && cache.trapped(guest, pc, now) {
            jit.announce(&cache);
        }
        drop(cache);
        let eflags = state.generated[Slot::FaultFlags as usize];
        state.pc = guest;
        I::set_context(state, found.context);
        state.nzcv = nzcv_of_slot(found.flags.slot_of(eflags, state.generated[Slot::Flags as usize]));
        if state.generated[Slot::ReturnStack as usize] < self.stack.low + 64 {
            self.reset_stack(jit, state);
        }
        let told = state.generated[Slot::FaultAccess as usize];
        let access = match told & 3 {
            kind if kind == FaultAccess::Read as u64 => Some(Access::Read),
            kind if kind == FaultAccess::Write as u64 => Some(Access::Write),
            _ => None,
        };
        if let Some(access) = access.filter(|_| !I::repeats(found.context)) {
            return Some(Exit::Fault(Fault { address: told >> 2, access, host_signal: true }));
        }
        let interrupt = state.generated[Slot::Interrupt as usize] as *const AtomicU32;
        // SAFETY: the flag of the run.
        if breakpoint && unsafe { &*interrupt }.load(Ordering::SeqCst) & !POKE != 0 {
            // The caller checks the flag.
            return None;
        }
        Some(self.interpreter.step(state, host)).filter(|&exit| exit != Exit::Budget)
    }
}
