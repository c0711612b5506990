import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { isHealthy, renderDiagnoses, type Diagnosis } from './diagnosis.ts';
import { diagnose, judgeQemu, type Instruments } from './doctor.ts';
import { findProbe, parsePackages, systemPackages } from './system-packages.ts';

const instruments: Instruments = {
  probeAccelerator: () => Promise.resolve({ accelerator: 'tcg', reason: 'the guest stayed silent' }),
  findVirtme: () => Promise.resolve({ program: '/usr/bin/vng', version: '1.35' }),
};

function named(diagnoses: readonly Diagnosis[], name: string): Diagnosis | undefined {
  return diagnoses.find((diagnosis) => diagnosis.name === name);
}

test('doctor: looks at this machine and says something of each thing once', async (t) => {
  const diagnoses = await diagnose(instruments);
  for (const name of ['node', 'packages', 'virtme-ng', '/dev/kvm', 'accelerator', 'disk', 'cache']) {
    t.is(diagnoses.filter((diagnosis) => diagnosis.name === name).length, 1, name);
  }
  t.is(named(diagnoses, 'node')?.state, 'ok', 'the tests run under the pinned Node');
});

test('doctor: KVM counts only when it ran guest code', async (t) => {
  const silent = named(await diagnose(instruments), 'accelerator');
  t.is(silent?.state, 'warning');
  t.regex(silent?.detail ?? '', /the guest stayed silent/);
  const probeAccelerator: Instruments['probeAccelerator'] = () =>
    Promise.resolve({ accelerator: 'kvm', reason: '' });
  t.is(named(await diagnose({ ...instruments, probeAccelerator }), 'accelerator')?.state, 'ok');
});

test('doctor: a virtme-ng that is not there is missing, with what mends it', async (t) => {
  const findVirtme: Instruments['findVirtme'] = () =>
    Promise.reject(new Failure('E_TOOL_MISSING', 'infra', 'no vng', { hint: 'run make setup' }));
  const diagnoses = await diagnose({ ...instruments, findVirtme });
  t.false(isHealthy(diagnoses));
  t.is(named(diagnoses, 'virtme-ng')?.remedy, 'run make setup');
});

test('doctor: an accident in an instrument is a bug, not a diagnosis', async (t) => {
  const findVirtme: Instruments['findVirtme'] = () => Promise.reject(new TypeError('oops'));
  await t.throwsAsync(diagnose({ ...instruments, findVirtme }), { instanceOf: TypeError });
});

test('doctor: QEMU up to 8.0 is noted for its int3 oopses, later ones are not', (t) => {
  t.is(judgeQemu('7.2.22').state, 'warning');
  t.is(judgeQemu('8.0.5').state, 'warning');
  t.is(judgeQemu('8.1.0').state, 'ok');
  t.is(judgeQemu('10.0.2').state, 'ok');
  t.is(judgeQemu(undefined).state, 'warning');
});

test('doctor: the table names what is missing, what needs it and the command', (t) => {
  const text = renderDiagnoses([
    { name: 'node', state: 'ok', detail: 'v24', neededFor: 'everything' },
    {
      name: 'flex',
      state: 'missing',
      detail: 'no flex',
      neededFor: 'kernel build',
      remedy: 'as root: apt-get install flex',
    },
  ]);
  t.is(
    text,
    [
      'ok       node  v24',
      'MISSING  flex  no flex (for: kernel build)',
      '               → as root: apt-get install flex',
      '',
      '1 missing: see the arrows.',
    ].join('\n'),
  );
});

test('packages.txt: every line has a known need, a probe and a reason, and no package twice', async (t) => {
  const packages = await systemPackages();
  t.true(packages.length > 20);
  for (const { need, name, probe, reason } of packages) {
    t.true(['node', 'check', 'test', 'vng'].includes(need), name);
    t.true(probe !== '' && reason !== '', name);
  }
  t.is(new Set(packages.map(({ name }) => name)).size, packages.length);
});

test('packages.txt: comments and blank lines are none', (t) => {
  t.deepEqual(parsePackages('# x\n\n  check git  git  reads series\n'), [
    { need: 'check', name: 'git', probe: 'git', reason: 'reads series' },
  ]);
});

test('packages.txt: a probe is a command or a glob of files', async (t) => {
  t.regex((await findProbe('bash')) ?? '', /\/bash$/);
  t.not(await findProbe('/bin/ba*h'), undefined);
  t.is(await findProbe('no-such-command-here'), undefined);
  t.is(await findProbe('/no/such/*'), undefined);
});
