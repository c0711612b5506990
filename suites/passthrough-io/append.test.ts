import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest('O_APPEND puts every write at the end, whatever the offset says (A7)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'start' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_APPEND' });

  t.is(await client.pwrite({ fd, data: ' pwrite', offset: 0 }), 7);
  await client.lseek({ fd, offset: 2, whence: 'SEEK_SET' });
  t.is(await client.write({ fd, data: ' write' }), 6);
  t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 18, 'the position is the new end');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'start pwrite write');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('O_APPEND means the end of the backing file, not what FUSE believes (D17)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'four' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_APPEND' });
  t.is((await client.fstat({ fd })).size, 4);

  await client.writeFile({ path: fuse.backing('f'), data: ' behind', flags: 'O_WRONLY|O_APPEND' });
  await client.write({ fd, data: ' through' });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'four behind through');
  t.is((await client.fstat({ fd })).size, 19);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('RWF_APPEND appends on a descriptor without O_APPEND (A6)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  const chunks = [new Uint8Array(Buffer.from('AB')), new Uint8Array(Buffer.from('C'))];
  t.is(await client.pwritev2({ fd, chunks, offset: 0, flags: 'RWF_APPEND' }), 3);
  // Only that one write: the next goes where it says.
  t.is(await client.pwritev2({ fd, chunks, offset: 0 }), 3);
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'ABC3456789ABC');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});
