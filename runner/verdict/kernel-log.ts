import type { FaultKind } from '#runner/lib/events.ts';
import { cleanText } from '#runner/lib/clean-text.ts';
import { EMULATOR_SUSPECT, FAULT_MARKS, PANIC_OF_BEFORE, TRAP_OF_BEFORE } from './fault-marks.ts';
import type { FaultMark } from './fault-marks.ts';
import { fingerprintOf } from './fingerprint.ts';

/** One complaint of the guest's kernel. */
export interface KernelFault {
  readonly kind: FaultKind;
  /** One line for people, without addresses that change from run to run. */
  readonly title: string;
  /** Equal for the same complaint on another machine: kind and first frames, offsets removed. */
  readonly fingerprint: string;
  readonly lines: readonly string[];
  /** The accelerator may have caused this, not the kernel: no verdict about the kernel follows from it alone. */
  readonly emulatorSuspect: boolean;
}

/** A splat longer than this is cut; the whole console is kept anyway. Lines. */
const LONGEST = 160;
const LONGEST_PREFACE = 20;
const CUT_HERE = /^-+\[ cut here \]-+$/;
const END = /^-+\[ end (?:trace|Kernel panic)/;
const RULE = /^={20,}$/;

/**
 * Finds complaints in kernel console text or in records of /dev/kmsg, given as lines. Pure.
 * The same complaint (by fingerprint) is reported once.
 */
export function recogniseFaults(lines: readonly string[]): readonly KernelFault[] {
  const texts = lines.flatMap((line) => cleanText(line).split('\n')).map(withoutStamp);
  const found = new Map<string, KernelFault>();
  const scanner = new Scanner();
  for (const text of texts) scanner.take(text);
  for (const section of scanner.sections) {
    const fault = describe(section);
    if (!found.has(fault.fingerprint)) found.set(fault.fingerprint, fault);
  }
  return [...found.values()];
}

/** Removes `<4>`, `[    1.234567][  T12] ` of the console and `4,123,1234567,-;` of /dev/kmsg. */
export function withoutStamp(line: string): string {
  return line
    .replace(/^\d+,\d+,\d+,[^;]*;/, '')
    .replace(/^<\d+>/, '')
    .replace(/^\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?/, '');
}

interface Section {
  readonly mark: FaultMark;
  readonly match: RegExpExecArray;
  /** What the kernel printed between `cut here` and the line that was recognised: the WARN's own words. */
  readonly preface: readonly string[];
  readonly lines: string[];
}

/** Cuts a log into complaints, line by line. */
class Scanner {
  readonly sections: Section[] = [];
  #open: Section | undefined;
  /** Lines since `cut here`, as long as it is not known what complaint they open. */
  #preface: string[] | undefined;

  take(text: string): void {
    if (CUT_HERE.test(text)) {
      this.#preface = [];
      this.#open = undefined;
      return;
    }
    if (this.#continues(text)) return;
    const started =
      this.#preface !== undefined && text.startsWith('refcount_t: ') ? undefined : startOf(text);
    if (started !== undefined && !partOf(this.#open, started.mark)) this.#begin(started, text);
    else this.#append(text);
  }

  /** A line that belongs to the complaint above it although it looks like the start of another. */
  #continues(text: string): boolean {
    const ends = END.test(text);
    const open = this.#open;
    const trap = TRAP_OF_BEFORE.test(text) && open !== undefined && open.lines.length < 10;
    const owner =
      ends || PANIC_OF_BEFORE.test(text) ? (open ?? this.sections.at(-1)) : trap ? open : undefined;
    owner?.lines.push(text);
    if (ends) this.#open = undefined;
    return owner !== undefined;
  }

  #begin(started: { mark: FaultMark; match: RegExpExecArray }, text: string): void {
    const preface = this.#preface ?? [];
    this.#open = { ...started, preface, lines: [...preface, text] };
    this.sections.push(this.#open);
    this.#preface = undefined;
  }

  #append(text: string): void {
    if (this.#preface !== undefined) {
      if (this.#preface.push(text) > LONGEST_PREFACE) this.#preface = undefined;
      return;
    }
    this.#open?.lines.push(text);
    if (this.#open !== undefined && isOver(this.#open, text)) this.#open = undefined;
  }
}

function startOf(text: string): { mark: FaultMark; match: RegExpExecArray } | undefined {
  for (const mark of FAULT_MARKS) {
    const match = mark.pattern.exec(text);
    if (match !== null) return { mark, match };
  }
  return undefined;
}

/** An oops names its trap and a leak its objects: lines of theirs, not complaints of their own. */
function partOf(open: Section | undefined, mark: FaultMark): boolean {
  if (open === undefined || open.lines.length > 40 || open.mark.kind !== mark.kind) return false;
  return mark.kind === 'oops' || mark.kind === 'leak';
}

function isOver(section: Section, text: string): boolean {
  const framed = section.mark.kind === 'kasan' || section.match[0].startsWith('UBSAN');
  return (framed && RULE.test(text)) || section.lines.length >= LONGEST;
}

function describe(section: Section): KernelFault {
  const { mark, match, preface, lines } = section;
  const said = preface.find((line) => line.trim() !== '');
  const title = mark.title(match).trim();
  return {
    kind:
      mark.kind === 'warning' && preface.some((line) => line.startsWith('DEBUG_LOCKS'))
        ? 'lockdep'
        : mark.kind,
    title: said === undefined ? title : `${title}: ${said.trim()}`,
    fingerprint: fingerprintOf(mark.kind, title, lines),
    lines,
    emulatorSuspect: mark.kind === 'oops' && EMULATOR_SUSPECT.test(lines.slice(0, 3).join('\n')),
  };
}
