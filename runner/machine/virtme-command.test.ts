import test from 'ava';
import { fakePlan } from './testdata/fake-plan.ts';
import { kernelArguments, virtmeArguments, type MachinePlan } from './virtme-command.ts';

const plan = fakePlan({ append: ['fuse.max=1'] });

const qemuOptions = (of: MachinePlan): string =>
  virtmeArguments(of).find((argument) => argument.startsWith('--qemu-opts=')) ?? '';

test('vng: KVM is switched off exactly when emulation was chosen', (t) => {
  t.true(virtmeArguments(plan).includes('--disable-kvm'));
  t.false(virtmeArguments({ ...plan, accelerator: 'kvm' }).includes('--disable-kvm'));
});

test('vng: the guest is given an empty root, no network and a port of loopback alone', (t) => {
  const args = virtmeArguments(plan);
  t.is(args[args.indexOf('--root') + 1], '/tmp/f/empty');
  t.true(args.includes('--force-9p'));
  t.regex(qemuOptions(plan), /user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127\.0\.0\.1:40000-:22/);
});

test('vng: the root disk is read-only and what is written to the scratch disk is thrown away', (t) => {
  t.regex(qemuOptions(plan), /file=\/tmp\/f\/root\.ext4,format=raw,readonly=on/);
  t.regex(qemuOptions(plan), /file=\/tmp\/f\/scratch\.ext4,format=raw,snapshot=on/);
});

test('vng: the spare disk comes third and can be told from any other', (t) => {
  const disks = qemuOptions(plan).match(/virtio-blk-pci,drive=\w+/g);
  t.deepEqual(
    disks,
    ['root', 'scratch', 'spare'].map((drive) => `virtio-blk-pci,drive=${drive}`),
  );
  t.regex(qemuOptions(plan), /drive=spare,serial=fusegate-spare/);
});

test('memory: in a file that the machine writes to, or for itself what is in the file', (t) => {
  t.notRegex(qemuOptions(plan), /memory-backend/);
  const of = (memory: MachinePlan['memory']): string => qemuOptions({ ...plan, memory });
  t.regex(of('file'), /memory-backend-file,id=memory,size=1024M,mem-path=\/tmp\/f\/memory,share=on /);
  t.regex(of('copy'), /mem-path=\/tmp\/f\/memory,share=off -machine memory-backend=memory/);
});

test('kernel arguments: a fault ends the machine, the serial port is the console, the user has the last word', (t) => {
  const args = kernelArguments(plan);
  for (const wanted of ['console=ttyS0', 'panic=-1', 'oops=panic']) t.true(args.includes(wanted));
  t.is(args.at(-1), 'fuse.max=1');
  t.true(args.some((argument) => argument.startsWith('rcupdate.')));
  t.false(
    kernelArguments({ ...plan, accelerator: 'kvm' }).some((argument) => argument.startsWith('rcupdate.')),
  );
});
