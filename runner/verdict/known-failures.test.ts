import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { applyKnownFailure, findKnownReport, knownOf, loadKnownFailures } from './known-failures.ts';

const entry = {
  id: 'a/b: c',
  profiles: ['mainline-6.12'],
  reason: 'broken',
  link: 'https://example.org/1',
  expires: '2030-01-01',
};

test('known failures: no file is an empty list', async (t) => {
  t.deepEqual(await loadKnownFailures('/nowhere/known-failures.json'), []);
});

test('known failures: an entry counts for its profiles only', async (t) => {
  const known = await load(JSON.stringify([entry]));
  t.deepEqual(knownOf(known, { profile: 'mainline-6.12', release: '6.12.107' }), known);
  t.deepEqual(knownOf(known, { profile: 'v12-6.1', release: '6.12.107' }), []);
});

test('known failures: what is known of a kernel is known of its debug build', async (t) => {
  const known = await load(JSON.stringify([entry]));
  t.deepEqual(knownOf(known, { profile: 'mainline-6.12-debug', release: '6.12.107' }), known);
  t.deepEqual(knownOf(known, { profile: 'v12-6.1-debug', release: '6.12.107' }), []);
});

for (const [release, listed] of [
  ['6.12.99', true],
  ['6.12.111', false],
  ['6.12.111-fusegate', false],
  ['6.12.117+', false],
  ['6.12.0-rc3', true],
  ['6.13.0', true],
  ['6.1.188', true],
  ['6.1.189', false],
  ['6.1.192-dirty', false],
] as const) {
  const said = listed ? 'not mended' : 'mended';
  test(`known failures: ${release} is ${said} in an entry for 6.1.189 and 6.12.111`, async (t) => {
    const known = await load(JSON.stringify([{ ...entry, mendedIn: ['6.1.189', '6.12.111'] }]));
    t.deepEqual(knownOf(known, { profile: 'mainline-6.12', release }), listed ? known : []);
  });
}

test('known failures: one that passes, and one that has expired, fail the run and say so', async (t) => {
  const [known] = await load(JSON.stringify([entry]));
  const passed = applyKnownFailure({ outcome: 'passed', message: null }, known, '2029-12-31');
  t.is(passed.outcome, 'failed');
  t.regex(passed.message ?? '', /passed, but suites\/known-failures\.json lists it as failing/);
  const failed = { outcome: 'failed', message: 'wrong' } as const;
  t.is(applyKnownFailure(failed, known, '2029-12-31').outcome, 'known-failure');
  const expired = applyKnownFailure(failed, known, '2030-01-01');
  t.is(expired.outcome, 'failed');
  t.regex(expired.message ?? '', /^wrong\n.*expired on 2030-01-01/);
  const skipped = { outcome: 'skipped', message: 'why' } as const;
  t.is(applyKnownFailure(skipped, known, '2030-01-01').outcome, 'skipped');
});

const report = { kind: 'lockdep', says: ['possible recursive locking', 'sb_writers'] };
const said = {
  kind: 'lockdep',
  lines: ['WARNING: possible recursive locking detected', '(sb_writers#8)'],
} as const;

test('known failures: a complaint of the kernel is excused wherever it says all that is known of it', async (t) => {
  const known = await load(JSON.stringify([{ ...entry, report }]));
  const today = '2029-12-31';
  t.is(findKnownReport(known, said, today)?.reason, 'broken');
  t.is(findKnownReport(known, { ...said, kind: 'warning' }, today), undefined, 'another kind');
  t.is(findKnownReport(known, { ...said, lines: said.lines.slice(0, 1) }, today), undefined, 'half of it');
  t.is(findKnownReport(known, said, '2030-01-01'), undefined, 'too late');
  t.is(findKnownReport(await load(JSON.stringify([entry])), said, today), undefined, 'of a test only');
});

const bad: readonly (readonly [string, string, RegExp])[] = [
  ['no JSON', '{', /JSON/],
  ['no list', '{}', /at /],
  ['no reason', JSON.stringify([{ ...entry, reason: '' }]), /at 0\.reason/],
  ['a date that is none', JSON.stringify([{ ...entry, expires: 'soon' }]), /at 0\.expires/],
  ['a link that is none', JSON.stringify([{ ...entry, link: 'lore' }]), /at 0\.link/],
  [
    'a report of a kind that is none',
    JSON.stringify([{ ...entry, report: { ...report, kind: 'x' } }]),
    /report\.kind/,
  ],
  ['a release that is none', JSON.stringify([{ ...entry, mendedIn: ['6.1'] }]), /at 0\.mendedIn/],
  ['an unknown field', JSON.stringify([{ ...entry, since: 1 }]), /at 0/],
];

for (const [what, text, pattern] of bad) {
  test(`known failures: ${what} is told with its place`, async (t) => {
    const failure = await t.throwsAsync(load(text), { instanceOf: Failure, message: pattern });
    t.is(failure.code, 'E_CONFIG_INVALID');
  });
}

async function load(text: string) {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-known-'));
  try {
    await writeFile(join(dir, 'known.json'), text);
    return await loadKnownFailures(join(dir, 'known.json'));
  } finally {
    await rm(dir, { recursive: true });
  }
}
