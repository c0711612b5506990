import type { FaultKind } from '#runner/lib/events.ts';

/** How the first line of a kernel complaint looks. `title` is what a person should read. */
export interface FaultMark {
  readonly kind: FaultKind;
  readonly pattern: RegExp;
  readonly title: (match: RegExpExecArray) => string;
}

function mark(kind: FaultKind, pattern: RegExp, title?: (match: RegExpExecArray) => string): FaultMark {
  return { kind, pattern, title: title ?? ((match) => match[0]) };
}

/**
 * First match wins, so the special stands before the general. Texts are those of the kernel's own printk
 * calls (kernel/panic.c, mm/kasan/report.c, kernel/locking/lockdep.c, kernel/hung_task.c, kernel/watchdog.c,
 * kernel/rcu/tree_stall.h, lib/ubsan.c, mm/slub.c, mm/kmemleak.c, arch/x86/mm/fault.c, lib/bug.c, fs/super.c).
 */
export const FAULT_MARKS: readonly FaultMark[] = [
  mark('panic', /Kernel panic - not syncing: .*/),
  mark('kasan', /BUG: (?:KASAN|KFENCE|KMSAN): .*/, (m) => m[0].replace(/\+0x[0-9a-f]+\/0x[0-9a-f]+/, '')),
  mark('bug', /BUG: KCSAN: .*/),
  mark('lockup', /BUG: soft lockup - CPU#\d+ stuck for \d+s! \[.*\]/),
  mark('lockup', /[Ww]atchdog detected hard LOCKUP on cpu \d+/),
  mark('lockup', /BUG: workqueue lockup - .*/),
  mark('lockdep', /(?:BUG|WARNING): (?:Invalid wait context|.*[Ii]nvalid wait context.*)/),
  mark(
    'lockdep',
    /WARNING: (?:possible (?:circular locking dependency|recursive locking|irq lock inversion dependency) detected|inconsistent lock state|.*-safe -> .*-unsafe lock order detected|suspicious RCU usage|bad unlock balance detected!?|bad contention detected!?|held lock freed!?|lock held when returning to user space!?|Nested lock was not taken|Nested lock.*)/,
  ),
  mark('lockdep', /INFO: trying to register non-static key\./),
  mark('lockdep', /DEBUG_LOCKS_WARN_ON\(.*\)/),
  mark('oops', /BUG: kernel NULL pointer dereference, address: \S+/),
  mark('oops', /BUG: unable to handle (?:page fault for address|kernel .*?): ?\S*/),
  mark('oops', /Unable to handle kernel .*/),
  mark('oops', /Internal error: .*/),
  mark('oops', /(?:Oops: )?general protection fault.*?(?=:? [0-9a-f]{4} \[#\d+\]|$)/),
  mark('bug', /kernel BUG at \S+!/),
  mark(
    'oops',
    /(?:Oops: )?(?:invalid opcode|int3|stack segment|divide error|double fault).*?(?=: ?[0-9a-f]{4} \[#\d+\])/,
  ),
  mark('oops', /Oops(?: - .*?)?: [0-9a-f]{4} \[#\d+\].*/),
  mark('bug', /BUG: (?:sleeping function called from invalid context|scheduling while atomic).*/),
  mark('bug', /BUG: .*/),
  mark('bug', /BUG [\w-]+ \([^)]*\): .*/, (m) => m[0].replace(/ \((?:Not tainted|Tainted[^)]*)\)/, '')),
  mark('bug', /UBSAN: .*/),
  mark('bug', /VFS: Busy inodes after unmount of .*/),
  mark('bug', /EXT4-fs error \(device \S+\): .*/),
  mark('hung-task', /INFO: task \S+ blocked (?:in I\/O wait )?for more than \d+ seconds\./),
  mark('rcu-stall', /INFO: rcu\w* (?:self-)?detected (?:expedited )?stalls? on .*/),
  mark('warning', /WARNING: CPU: \d+ PID: \d+ at \S+ ?\S*/, warningTitle),
  mark('warning', /WARNING: (?:[\w./-]+:\d+ at \S+.*)/, warningTitle),
  mark('warning', /refcount_t: .*/),
  mark('leak', /kmemleak: \d+ new suspected memory leaks.*/),
  mark('leak', /unreferenced object 0x[0-9a-f]+ \(size \d+\)/),
];

/** `WARNING: CPU: 0 PID: 9 at fs/fuse/file.c:88 fuse_release+0x1/0x2` → where, without who ran it. */
function warningTitle(match: RegExpExecArray): string {
  const where = /at (\S+) ?([\w.]+)?/.exec(match[0]);
  return `WARNING at ${where?.[1] ?? 'unknown place'}${where?.[2] === undefined ? '' : ` in ${where[2]}`}`;
}

/** The panic that the policy (`oops=panic`, `hung_task_panic=1`, ...) makes of a complaint printed before it. */
export const PANIC_OF_BEFORE =
  /Kernel panic - not syncing: (?:Fatal exception|hung_task|softlockup|hard LOCKUP|.*panic_on_warn|.*RCU Stall|Aiee|kasan|lockdep)/;

/** The trap by which a BUG or a bad access was noticed, printed within a few lines of it. */
export const TRAP_OF_BEFORE = /^(?:Oops|invalid opcode|DEBUG_LOCKS_WARN_ON)\b/;

/** A breakpoint trap that nobody set: QEMU's TCG up to 8.0 makes these up with several CPUs. */
export const EMULATOR_SUSPECT = /\bint3: /;
