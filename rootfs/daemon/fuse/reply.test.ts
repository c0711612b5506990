import test from 'ava';
import { answer, errorAnswer, notification, Out, padTo8, struct } from './reply.ts';

test('an answer is a header of 16 bytes and its body', (t) => {
  const bytes = answer(7, new Uint8Array([1, 2, 3]));
  t.is(Buffer.from(bytes).toString('hex'), '13000000' + '00000000' + '0700000000000000' + '010203');
});

test('an error is negative and has no body', (t) => {
  const bytes = errorAnswer(7, 'EIO');
  t.is(Buffer.from(bytes).toString('hex'), '10000000' + 'fbffffff' + '0700000000000000');
});

test('a notification answers nothing and has its code in place of the error', (t) => {
  const bytes = notification(2, new Uint8Array());
  t.is(Buffer.from(bytes).toString('hex'), '10000000' + '02000000' + '0000000000000000');
});

test('an open answer has the backing id at offset 12, signed', (t) => {
  const bytes = struct('open', { fh: 5, open_flags: 0x80, backing_id: -1 });
  t.is(Buffer.from(bytes).toString('hex'), '0500000000000000' + '80000000' + 'ffffffff');
});

test('the structs have the sizes of the kernel', (t) => {
  const sizes = Object.fromEntries(Object.entries(Out).map(([name, { bytes }]) => [name, bytes]));
  t.deepEqual(sizes, {
    entry: 128,
    attr: 104,
    open: 16,
    write: 8,
    statfs: 80,
    getxattr: 8,
    lk: 24,
    init: 64,
    ioctl: 16,
    poll: 8,
    lseek: 8,
    copied: 8,
    dirent: 24,
    notifyInode: 24,
    notifyEntry: 16,
    notifyDelete: 24,
    notifyStore: 24,
  });
});

test('max_stack_depth stands at offset 36 of the INIT answer', (t) => {
  const bytes = struct('init', { max_stack_depth: 2, flags2: 0x20 });
  const view = new DataView(bytes.buffer);
  t.is(view.getUint32(36, true), 2);
  t.is(view.getUint32(32, true), 0x20);
});

test('directory entries are padded to 8 bytes', (t) => {
  t.deepEqual(
    [24, 25, 31, 32].map((length) => padTo8(new Uint8Array(length)).length),
    [24, 32, 32, 32],
  );
});
