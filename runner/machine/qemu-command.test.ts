import test from 'ava';
import { copyArguments, virtmePart } from './qemu-command.ts';
import { fakePlan } from './testdata/fake-plan.ts';
import { qemuArguments } from './virtme-command.ts';

const saved = fakePlan({ id: 'machine-saved', sshPort: 40000, scratch: 'kept' });
const copy = fakePlan({ id: 'machine-3', dir: '/tmp/g', sshPort: null, incoming: true });
const theirs = ['-name', 'machine-saved', '-m', '1024M', '-fsdev', 'local,id=fs5,path=/tmp/f/empty'];
const commandLine = [
  '/usr/bin/qemu-system-x86_64',
  ...theirs,
  '-kernel',
  '/tmp/f/kernel',
  ...qemuArguments(saved),
];

test('a copy is started with what virtme-ng chose for the machine that was saved, in its own directory', (t) => {
  const command = virtmePart(commandLine, saved);
  if (command === undefined) return t.fail('virtme-ng’s part was not found');
  t.is(command.program, '/usr/bin/qemu-system-x86_64');
  const args = copyArguments(command, copy);
  t.deepEqual(args.slice(0, 8), [
    ...['-name', 'machine-3', '-m', '1024M', '-fsdev', 'local,id=fs5,path=/tmp/g/empty'],
    ...['-kernel', '/tmp/g/kernel'],
  ]);
  t.deepEqual(args.slice(8), qemuArguments(copy));
});

test('nothing of the saved machine is left in a copy: neither its directory nor its door for SSH', (t) => {
  const command = virtmePart(commandLine, saved);
  const text = command === undefined ? '' : copyArguments(command, copy).join(' ');
  t.regex(text, /-incoming defer$/);
  for (const left of ['/tmp/f', '{dir}', 'hostfwd', 'machine-saved']) t.false(text.includes(left), left);
});

test('a command line that does not end in our arguments is not taken for the machine’s', (t) => {
  t.is(virtmePart(commandLine.slice(0, -1), saved), undefined);
  t.is(virtmePart([...commandLine, '-S'], saved), undefined);
  t.is(virtmePart([], saved), undefined);
});
