import type { FaultKind } from '#runner/lib/events.ts';

/** How many frames make two traces the same complaint. */
const DEPTH = 3;

/** `func+0x12/0x34`, with the `?` of a frame that the unwinder only guesses at. */
const FRAME = /(\? )?\b([A-Za-z_][\w.]*)\+0x[0-9a-f]+\/0x[0-9a-f]+/;

/** Machinery between the place that went wrong and the text about it: the same in every report. */
const MACHINERY =
  /^(?:dump_stack|show_stack|print_|kasan_|__kasan|report_|panic$|__?warn|warn_slowpath|die|page_fault_oops|oops_|exc_|asm_exc|do_error_trap|do_trap|handle_bug|fixup_|__die|no_context|__bad_area|bad_area|check_|__lock_acquire|lock_acquire|lockdep|debug_|refcount_warn|__might_|__schedule|schedule$|schedule_|watchdog|rcu_|sched_show|ubsan_|__ubsan|slab_|object_err|free_debug|kmem|kfree|_*kmalloc|__asan_|mem(?:cpy|set|move|cmp)$)/;

/** Traces of who allocated or freed, and the locks held: true, but not where it went wrong. */
const OTHER_TRACES =
  /^(?:Allocated by|Freed by|Last potentially related|The buggy address|Showing all locks)/;

/** Equal for the same complaint elsewhere: its first telling frames, or its title without numbers. */
export function fingerprintOf(kind: FaultKind, title: string, lines: readonly string[]): string {
  const frames = firstFrames(lines);
  return frames.length === 0 ? `${kind} ${withoutNumbers(title)}` : `${kind} ${frames.join(' < ')}`;
}

export function firstFrames(lines: readonly string[]): readonly string[] {
  const frames: string[] = [];
  for (const line of lines) {
    if (OTHER_TRACES.test(line)) break;
    const match = FRAME.exec(line);
    const name = match?.[2]?.replace(/\.(?:isra|constprop|part|cold|llvm)\b.*$/, '');
    if (name === undefined || match?.[1] !== undefined || MACHINERY.test(name)) continue;
    if (frames.at(-1) !== name) frames.push(name);
    if (frames.length === DEPTH) break;
  }
  return frames;
}

function withoutNumbers(title: string): string {
  return title.replaceAll(/0x[0-9a-f]+|\b[0-9a-f]{8,}\b/g, 'ADDR').replaceAll(/\d+/g, 'N');
}
