// SPDX-License-Identifier: GPL-2.0
/* Files of guest RAM: page faults, read, write, fallocate. */

#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/splice.h>
#include <linux/uio.h>

#include "../compat.h"
#include "guestram.h"

/*
 * The frame is returned locked, and unlocked by the kernel once it is in the
 * page table: who takes it out of its slot waits for the lock, and finds the
 * entry that is to be taken away.
 */
static vm_fault_t guestram_fault(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	struct folio *folio;

	folio = guestram_own(inode, vmf->pgoff, vmf->vma, vmf->address);
	/* The signal ends it; the page is not looked for again. */
	if (folio == ERR_PTR(-EINTR))
		return VM_FAULT_NOPAGE;
	/*
	 * Also without memory: VM_FAULT_OOM would call the OOM killer, or try
	 * again for ever at a cgroup's limit.
	 */
	if (IS_ERR(folio))
		return VM_FAULT_SIGBUS;
	if (guestram_beyond_end(inode, vmf->pgoff)) {
		folio_unlock(folio);
		folio_put(folio);
		return VM_FAULT_SIGBUS;
	}

	vmf->page = folio_page(folio, 0);
	return VM_FAULT_LOCKED;
}

/* No page_mkwrite: with it, 6.12 refuses long-term pins. */
const struct vm_operations_struct guestram_vm_ops = {
	.fault = guestram_fault,
};

static int guestram_mmap(struct file *file, struct vm_area_struct *vma)
{
	file_accessed(file);
	vma->vm_ops = &guestram_vm_ops;
	return 0;
}

static ssize_t guestram_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t done = 0;

	while (iov_iter_count(to)) {
		size_t offset = offset_in_page(iocb->ki_pos);
		loff_t left = i_size_read(inode) - iocb->ki_pos;
		struct folio *folio;
		size_t copied;
		size_t bytes;

		if (left <= 0 || fatal_signal_pending(current))
			break;

		bytes = min_t(loff_t, left, PAGE_SIZE - offset);
		bytes = min(bytes, iov_iter_count(to));
		folio = guestram_find(inode, iocb->ki_pos >> PAGE_SHIFT);
		if (folio) {
			/* A copy, also for a pipe: no reference to the page. */
			copied = copy_to_iter(folio_address(folio) + offset,
					      bytes, to);
			folio_put(folio);
		} else {
			copied = iov_iter_zero(bytes, to);
		}
		iocb->ki_pos += copied;
		done += copied;
		if (copied < bytes) {
			if (!done)
				done = -EFAULT;
			break;
		}
		cond_resched();
	}
	file_accessed(iocb->ki_filp);
	return done;
}

/* One piece, in one page; returns how much was copied. */
static ssize_t write_piece(struct inode *inode, loff_t pos, size_t bytes,
			   struct iov_iter *from)
{
	struct folio *folio;
	size_t copied;

	/* No memory for a caller that has nothing to put there. */
	if (fault_in_iov_iter_readable(from, bytes) == bytes)
		return -EFAULT;

	folio = guestram_own(inode, pos >> PAGE_SHIFT, NULL, 0);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	/* Copying may fault, on this very frame: without its lock. */
	folio_unlock(folio);
	copied = copy_page_from_iter(folio_page(folio, 0), offset_in_page(pos),
				     bytes, from);
	folio_put(folio);
	return copied ? copied : -EFAULT;
}

static ssize_t write_pieces(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t done = 0;
	ssize_t ret = 0;

	while (iov_iter_count(from)) {
		ret = write_piece(inode, iocb->ki_pos,
				  min(PAGE_SIZE - offset_in_page(iocb->ki_pos),
				      iov_iter_count(from)), from);
		if (ret < 0)
			break;

		iocb->ki_pos += ret;
		done += ret;
		if (iocb->ki_pos > i_size_read(inode))
			i_size_write(inode, iocb->ki_pos);
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	return done ? done : ret;
}

static ssize_t guestram_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t ret;
	int err;

	inode_lock(inode);
	ret = generic_write_checks(iocb, from);
	if (ret > 0) {
		err = file_modified(iocb->ki_filp);
		ret = err ? err : write_pieces(iocb, from);
	}
	inode_unlock(inode);
	return ret;
}

static int zero_ends(struct inode *inode, loff_t from, loff_t start, loff_t end,
		     loff_t to)
{
	int err;

	if (start > end)
		return guestram_zero(inode, from, to);

	err = guestram_zero(inode, from, start);
	return err ? err : guestram_zero(inode, end, to);
}

static int punch_hole(struct inode *inode, loff_t from, loff_t to)
{
	loff_t start = round_up(from, PAGE_SIZE);
	loff_t end = round_down(to, PAGE_SIZE);
	int err;

	filemap_invalidate_lock(inode->i_mapping);
	err = zero_ends(inode, from, start, end, to);
	if (!err && start < end) {
		pgoff_t first = start >> PAGE_SHIFT;
		pgoff_t last = (end >> PAGE_SHIFT) - 1;

		/* At once, and one by one what is touched meanwhile. */
		unmap_mapping_pages(inode->i_mapping, first, last - first + 1,
				    false);
		guestram_empty(inode, first, last);
	}
	filemap_invalidate_unlock(inode->i_mapping);
	return err;
}

static int allocate(struct inode *inode, int mode, loff_t from, loff_t to)
{
	int err;

	if (!(mode & FALLOC_FL_KEEP_SIZE)) {
		err = inode_newsize_ok(inode, to);
		if (err)
			return err;
	}

	filemap_invalidate_lock(inode->i_mapping);
	err = guestram_fill(inode, from >> PAGE_SHIFT, (to - 1) >> PAGE_SHIFT);
	filemap_invalidate_unlock(inode->i_mapping);
	if (!err && !(mode & FALLOC_FL_KEEP_SIZE) && to > i_size_read(inode))
		i_size_write(inode, to);
	return err;
}

static long guestram_fallocate(struct file *file, int mode, loff_t offset,
			       loff_t len)
{
	struct inode *inode = file_inode(file);
	int err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;

	inode_lock(inode);
	err = file_modified(file);
	if (!err && (mode & FALLOC_FL_PUNCH_HOLE))
		err = punch_hole(inode, offset, offset + len);
	else if (!err)
		err = allocate(inode, mode, offset, offset + len);
	inode_unlock(inode);
	return err;
}

const struct file_operations guestram_file_ops = {
	.llseek = generic_file_llseek,
	.read_iter = guestram_read_iter,
	.write_iter = guestram_write_iter,
	.mmap = guestram_mmap,
	.fsync = noop_fsync,
	.fallocate = guestram_fallocate,
	.splice_read = crosstalk_splice_read,
	.splice_write = iter_file_splice_write,
};
