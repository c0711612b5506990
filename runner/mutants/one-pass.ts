import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Profile } from '#kernel/profile.ts';
import { exactMatch } from '#runner/ava/test-id.ts';
import type { Config } from '#runner/config/config.ts';
import type { EventSink, TestOutcome } from '#runner/lib/events.ts';
import { EventBus } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { RunParts } from '#runner/run/parts.ts';
import type { Prepared } from '#runner/run/prepare.ts';
import { runSuites } from '#runner/run/run-suites.ts';
import { partsWithMutant, type Switch } from './mutant-switch.ts';
import { fileOfTest } from './record.ts';

export interface MutantContext {
  readonly config: Config;
  readonly profile: Profile;
  readonly prepared: Prepared;
  readonly parts: RunParts;
  readonly projectDir: string;
  readonly signal: AbortSignal;
  /** Tests asked about one mistake, at most. */
  readonly most?: number | undefined;
  readonly note: (text: string) => void;
}

export interface TestEnd {
  readonly id: string;
  readonly outcome: TestOutcome;
  readonly durationMs: number;
  readonly message: string | null;
}

/** Who noticed that something is wrong. `test` null: the machine itself did. */
export interface Notice {
  readonly test: string | null;
  readonly message: string;
}

const WRONG: readonly TestOutcome[] = ['failed', 'crashed', 'timed-out'];

/**
 * These tests, on machines with this mistake, up to the first that fails.
 * @param tests ids, or test files
 * @throws Failure of infra, or the reason of the signal.
 */
export async function untilNoticed(
  context: MutantContext,
  chosen: Switch,
  tests: readonly string[],
): Promise<Notice | null> {
  const stop = new AbortController();
  const heard: Notice[] = [];
  const notices = (test: string | null, message: string): void => {
    heard.push({ test, message });
    stop.abort(new Failure('E_INTERRUPTED', 'interrupted', 'it was noticed'));
  };
  const files = [...new Set(tests.map(fileOfTest))];
  const match = tests.map((id) => exactMatch(id.slice(id.indexOf(': ') + 2)));
  try {
    await onePass(context, chosen, { files, match }, stop.signal, (event) => {
      if (event.type === 'test-finished' && WRONG.includes(event.outcome)) {
        notices(event.id, event.message ?? event.outcome);
      }
      if (event.type === 'kernel-fault' && event.test === null) notices(null, event.title);
    });
  } catch (error) {
    if (heard[0] !== undefined) return heard[0];
    if (error instanceof Failure && error.blame === 'kernel') return { test: null, message: error.message };
    throw error;
  }
  return heard[0] ?? null;
}

/** All tests of these files, to their end. */
export async function everyEnd(
  context: MutantContext,
  chosen: Switch,
  files: readonly string[],
  onEvent: EventSink,
): Promise<readonly TestEnd[]> {
  const ends: TestEnd[] = [];
  await onePass(context, chosen, { files, match: [] }, undefined, (event) => {
    onEvent(event);
    if (event.type === 'test-finished') ends.push(event);
  });
  return ends;
}

async function onePass(
  { config, signal, note, profile, prepared, parts, projectDir }: MutantContext,
  chosen: Switch,
  selection: Config['selection'],
  stop: AbortSignal | undefined,
  sink: EventSink,
): Promise<void> {
  const bus = new EventBus();
  bus.subscribe(sink);
  bus.subscribe((event) => {
    if (event.type === 'note') note(event.text);
  });
  const out = join(config.out, 'pass');
  await rm(out, { recursive: true, force: true });
  await runSuites({
    ...{ profile, prepared, projectDir },
    config: { ...config, selection, out },
    parts: partsWithMutant(parts, chosen),
    context: { emit: bus.emit, signal: stop === undefined ? signal : AbortSignal.any([signal, stop]) },
  });
}
