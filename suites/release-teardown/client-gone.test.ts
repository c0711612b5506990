import { pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { Witness } from '../lib/witness.ts';

guestTest(
  'a client killed with open files: each gets its RELEASE, nothing is kept (C18)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using victim = await guest.client();
    const names = ['a', 'b', 'c'];
    for (const name of names) await client.writeFile({ path: fuse.backing(name), data: name });
    for (const name of names) await victim.open({ path: fuse.file(name), flags: 'O_RDWR' });
    const again = await victim.open({ path: fuse.file('a'), flags: 'O_RDONLY' });
    await victim.dup({ fd: again });
    t.is(await guest.umountBacking(), 'EBUSY');
    t.is((await victim.kill())?.signal, 'SIGKILL');

    let after = 0;
    for (let count = 0; count < 4; count++) after = (await fuse.waitFor({ opcode: 'RELEASE', after })).seq;
    const opened = (await fuse.requests('OPEN')).map(({ reply }) => reply?.open?.fh);
    const released = (await fuse.requests('RELEASE')).map(({ args }) => args['fh']);
    t.deepEqual(released.sort(), opened.sort());
    t.deepEqual((await fuse.state()).handles, []);
    t.deepEqual((await fuse.state()).backingIds, []);
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'a client killed while it waits for the answer to OPEN leaves no open file (C15, C18)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using victim = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const hold = await fuse.hold('OPEN');
    const opening = victim.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' }).catch(() => 'ended');
    const open = await hold.arrived();
    await hold.stop();
    const death = victim.kill();
    // The request has been read by the server: the process stays until it is answered, which INTERRUPT asks for.
    await fuse.waitFor({ opcode: 'INTERRUPT', after: open.seq }, 'arrived');
    await hold.release(open);
    t.is((await death)?.signal, 'SIGKILL');
    t.is(await opening, 'ended');

    await fuse.waitFor('RELEASE');
    t.is((await fuse.requests('RELEASE')).length, 1);
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'backing');
    await fuse.waitFor({ opcode: 'RELEASE', after: (await fuse.requests('RELEASE'))[0]?.seq });
    t.deepEqual((await fuse.state()).backingIds, []);
    t.false(await guest.isBackingBusy());
  },
);

guestTest('a client killed with asynchronous I/O under way leaves nothing (C18)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await using victim = await guest.client();
  const block = 64 * 1024;
  const data = pattern(block);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await victim.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const operations = Array.from({ length: 8 }, (_, index) => [
    { op: 'pwrite', fd, data, offset: block * (index + 1) } as const,
    { op: 'pread', fd, count: block, offset: 0 } as const,
  ]).flat();
  const batches = [1, 2, 3].map(() => victim.aio({ operations }).catch(() => 'ended'));
  t.is((await victim.kill())?.signal, 'SIGKILL');
  await Promise.all(batches);

  await fuse.waitFor('RELEASE');
  t.is((await fuse.requests('RELEASE')).length, 1);
  t.deepEqual(await fuse.dataRequests(), []);
  t.deepEqual(
    await client.pread({
      fd: await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
      count: block,
      offset: 0,
    }),
    data,
  );
  await client.kill();
  await fuse.waitFor({ opcode: 'RELEASE', after: (await fuse.requests('RELEASE'))[0]?.seq });
  t.false(await guest.isBackingBusy());
});

guestTest('asynchronous I/O completes though the descriptor is closed by then (C18)', async (t, guest) => {
  await using witness = await Witness.mount(guest, { lowerInit: { addFlags: ['ASYNC_DIO'] } });
  const { upper, lower } = witness;
  await using client = await guest.client();
  const data = pattern(8192);
  await client.writeFile({ path: upper.backing('f'), data });
  const fd = await client.open({ path: upper.file('f'), flags: 'O_RDWR|O_DIRECT' });
  const hold = await lower.hold('READ');
  const reading = client.aio({ operations: [{ op: 'pread', fd, count: 8192, offset: 0 }] });
  reading.catch(() => undefined);
  const request = await hold.arrived();
  t.is(await client.errno.close({ fd }), 'ok');
  t.deepEqual(await upper.opcodes('RELEASE'), [], 'what is under way keeps the file');
  await hold.stop();
  await hold.release(request);
  const [{ result, data: read } = { result: 'nothing', data: null }] = await reading;
  t.is(result, 8192);
  t.deepEqual(read, data);
  await upper.waitFor('RELEASE');
  t.is((await upper.requests('RELEASE')).length, 1);
  t.deepEqual(await upper.dataRequests(), []);
});
