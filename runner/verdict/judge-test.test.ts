import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import type { LeaseOutcome, TestStatement } from './judge-test.ts';
import { judgeTest } from './judge-test.ts';

const passed: TestStatement = { outcome: 'passed', durationMs: 1, message: null };
const failed: TestStatement = { outcome: 'failed', durationMs: 1, message: 'not equal' };
const cutShort: TestStatement = { outcome: 'not-run', durationMs: 0, message: 'AVA ended' };
const lost = (blame: 'kernel' | 'infra'): Failure => new Failure('E_X', blame, 'gone');
const left = { kind: 'left-mount', message: 'a mount was left' } as const;

const table: readonly {
  readonly what: string;
  readonly said: TestStatement;
  readonly lease?: Partial<LeaseOutcome>;
  readonly expected: { readonly outcome: string; readonly message: string | null };
}[] = [
  { what: 'no lease', said: failed, expected: { outcome: 'failed', message: 'not equal' } },
  { what: 'a clean lease', said: passed, lease: {}, expected: { outcome: 'passed', message: null } },
  {
    what: 'a finding that the test did not tell',
    said: passed,
    lease: { findings: [left] },
    expected: { outcome: 'failed', message: 'a mount was left' },
  },
  {
    what: 'a finding that the test told',
    said: { ...failed, message: 'a mount was left\nat x.ts:1' },
    lease: { findings: [left] },
    expected: { outcome: 'failed', message: 'a mount was left\nat x.ts:1' },
  },
  {
    what: 'a finding besides a failure',
    said: failed,
    lease: { findings: [left] },
    expected: { outcome: 'failed', message: 'not equal\na mount was left' },
  },
  {
    what: 'a complaint of the kernel that is known',
    said: passed,
    lease: { excused: ['the order of locks (docs)\nWARNING: circular'] },
    expected: { outcome: 'known-failure', message: 'the order of locks (docs)\nWARNING: circular' },
  },
  {
    what: 'a failure besides a complaint that is known',
    said: failed,
    lease: { excused: ['the order of locks (docs)'] },
    expected: { outcome: 'failed', message: 'not equal' },
  },
  {
    what: 'a finding besides a complaint that is known',
    said: passed,
    lease: { excused: ['the order of locks (docs)'], findings: [left] },
    expected: { outcome: 'failed', message: 'a mount was left' },
  },
  {
    what: 'a test that gave up waiting',
    said: failed,
    lease: { timedOut: true },
    expected: { outcome: 'timed-out', message: 'not equal' },
  },
  {
    what: 'a machine lost by the kernel',
    said: failed,
    lease: { lost: lost('kernel'), findings: [{ kind: 'kernel-log', message: 'Kernel panic' }] },
    expected: { outcome: 'crashed', message: 'gone\nKernel panic' },
  },
  {
    what: 'a machine lost otherwise',
    said: failed,
    lease: { lost: lost('infra') },
    expected: { outcome: 'not-run', message: 'gone' },
  },
  {
    what: 'an emulator that is suspected',
    said: failed,
    lease: { suspect: true, findings: [{ kind: 'kernel-log', message: 'Oops: int3' }] },
    expected: { outcome: 'not-run', message: 'no verdict, the emulator is suspected: Oops: int3' },
  },
  {
    what: 'a reason to skip',
    said: passed,
    lease: { skipReason: 'no ids' },
    expected: { outcome: 'skipped', message: 'no ids' },
  },
  {
    what: 'a reason to skip and a mess',
    said: passed,
    lease: { skipReason: 'no ids', findings: [left] },
    expected: { outcome: 'failed', message: 'a mount was left' },
  },
  {
    what: 'what a test that was cut short left behind',
    said: cutShort,
    lease: { findings: [left] },
    expected: { outcome: 'not-run', message: 'AVA ended' },
  },
  {
    what: 'what the kernel said during a test that was cut short',
    said: cutShort,
    lease: { findings: [left, { kind: 'kernel-log', message: 'WARNING' }] },
    expected: { outcome: 'failed', message: 'AVA ended\na mount was left\nWARNING' },
  },
  {
    what: 'hostile text',
    said: { ...failed, message: '\u001b[31mred\n::error::x' },
    expected: { outcome: 'failed', message: 'red\n: :error::x' },
  },
];

for (const { what, said, lease, expected } of table) {
  test(`judge test: ${what}`, (t) => {
    const judged = judgeTest(said, lease === undefined ? undefined : { ...CLEAN, ...lease });
    t.deepEqual(judged as typeof expected, expected);
  });
}

const CLEAN: LeaseOutcome = {
  machine: 'machine-1',
  durationMs: 1,
  findings: [],
  evidence: [],
  lost: null,
  suspect: false,
  skipReason: null,
};
